//! The command line.

use lexopt::{Arg, Parser, ValueExt as _};
use std::ffi::OsString;
use std::time::Duration;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

/// Below this the CPU's numbers are mostly noise, and a fleet of agents becomes a load.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Beyond this a host looks absent: an alert rule looks back 5 minutes for the latest value.
const MAX_INTERVAL: Duration = Duration::from_secs(300);

const HELP: &str = "\
Pushes this machine's CPU, memory, disk and network metrics to Tidemark.

Usage: tidemark-agent --url URL [options]

Options:
  --url URL         the API, the part before /api/v1 (or environment TIDEMARK_URL)
  --interval SECS   seconds between two rounds, 1 to 300 (default 10)
  --host NAME       value of the label `host` (default: this machine's host name)
  --label K=V       a label on every series; may be given several times
  --per-core        also the usage of each CPU core
  --sigv4 REGION    sign requests for AWS IAM with the credentials in AWS_ACCESS_KEY_ID,
                    AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN
  --once            push one round, wait until it is accepted, and end
  -h, --help        this text
  -V, --version     the version

The agent runs until SIGINT or SIGTERM and then
sends what is left. Exit codes: 0 all is sent, 1 samples were not accepted, 2 wrong usage.";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Parsed {
    Run(Box<Args>),
    Print(String),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Args {
    pub(crate) url: String,
    pub(crate) interval: Duration,
    pub(crate) host: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) per_core: bool,
    pub(crate) sigv4: Option<String>,
    pub(crate) once: bool,
}

/// Reads the command line, the program's name first.
pub(crate) fn parse<I>(args: I, default_url: Option<String>) -> Result<Parsed, lexopt::Error>
where
    I: IntoIterator<Item: Into<OsString>>,
    I::IntoIter: 'static,
{
    let mut parser = Parser::from_iter(args.into_iter().map(Into::into));
    let mut url = default_url;
    let mut parsed = Args {
        url: String::new(),
        interval: DEFAULT_INTERVAL,
        host: None,
        labels: Vec::new(),
        per_core: false,
        sigv4: None,
        once: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("url") => url = Some(parser.value()?.string()?),
            Arg::Long("interval") => parsed.interval = parser.value()?.parse_with(interval)?,
            Arg::Long("host") => parsed.host = Some(parser.value()?.string()?),
            Arg::Long("label") => parsed.labels.push(parser.value()?.parse_with(label)?),
            Arg::Long("per-core") => parsed.per_core = true,
            Arg::Long("sigv4") => parsed.sigv4 = Some(parser.value()?.string()?),
            Arg::Long("once") => parsed.once = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(Parsed::Print(HELP.to_owned())),
            Arg::Short('V') | Arg::Long("version") => {
                return Ok(Parsed::Print(
                    concat!("tidemark-agent ", env!("CARGO_PKG_VERSION")).to_owned(),
                ));
            }
            other => return Err(other.unexpected()),
        }
    }
    parsed.url = url.ok_or("missing --url, and TIDEMARK_URL is not set")?;
    Ok(Parsed::Run(Box::new(parsed)))
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(interval) if (MIN_INTERVAL..=MAX_INTERVAL).contains(&interval) => Ok(interval),
        _ => Err("must be between 1 and 300 seconds".to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &'static [&'static str]) -> Result<Parsed, String> {
        parse(std::iter::once("tidemark-agent").chain(args.iter().copied()), None).map_err(|e| e.to_string())
    }

    fn run(args: &'static [&'static str]) -> Args {
        match parsed(args) {
            Ok(Parsed::Run(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_url_is_needed() {
        let args = run(&["--url", "http://x"]);
        assert_eq!(
            (args.url.as_str(), args.interval, args.host),
            ("http://x", DEFAULT_INTERVAL, None)
        );
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let url = |args: &'static [&'static str]| match parse(
            std::iter::once("a").chain(args.iter().copied()),
            Some("http://env".to_owned()),
        )
        .unwrap()
        {
            Parsed::Run(args) => args.url,
            other => panic!("{other:?}"),
        };
        assert_eq!(url(&[]), "http://env");
        assert_eq!(url(&["--url=http://arg"]), "http://arg");
    }

    #[test]
    fn labels_add_up_and_keep_equals_signs_of_their_values() {
        let args = run(&["--url", "u", "--label", "a=1", "--label", "b=x=y", "--label=c="]);
        let labels: Vec<_> = args.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(labels, [("a", "1"), ("b", "x=y"), ("c", "")]);
    }

    #[test]
    fn mistakes_are_named() {
        for (args, reason) in [
            (&[][..], "missing --url, and TIDEMARK_URL is not set"),
            (
                &["--url", "u", "--interval", "0.5"],
                "must be between 1 and 300 seconds",
            ),
            (
                &["--url", "u", "--interval", "NaN"],
                "must be between 1 and 300 seconds",
            ),
            (&["--url", "u", "--interval", "ten"], "not a number of seconds"),
            (&["--url", "u", "--label", "host"], "must be NAME=VALUE"),
            (&["--verbose"], "--verbose"),
            (&["extra"], "extra"),
        ] {
            let error = parsed(args).unwrap_err();
            assert!(error.contains(reason), "{args:?}: {error}");
        }
    }

    #[test]
    fn help_and_version_need_nothing_else() {
        assert!(matches!(parsed(&["--help"]), Ok(Parsed::Print(text)) if text.contains("--sigv4 REGION")));
        assert!(matches!(parsed(&["-V"]), Ok(Parsed::Print(text)) if text.starts_with("tidemark-agent 0.")));
    }
}
