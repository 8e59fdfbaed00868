//! `tidemark-demo`: shows the whole of Tidemark at work on a running stack, from a push to a resolved alert. Every line that
//! it prints comes from an answer; it ends with 1 and the name of the step if a step does not happen.

#[path = "../demo/mod.rs"]
mod demo;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let mut screen = demo::Screen::new();
    match demo::run(&mut screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            screen.failed(&failure);
            ExitCode::FAILURE
        }
    }
}
