//! What a template may not use. What is refused is what makes much out of little: texts that are joined, values that hold other values
//! twice (then a value of a few steps is written as gigabytes), and what defines or calls something.

use super::{TemplateError, template_error};
use minijinja::machinery::{Token, WhitespaceConfig, tokenize};

/// Tags that a template may use.
const TAGS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];

/// Words after which an expression begins.
const OPERATORS: [&str; 9] = ["if", "elif", "else", "and", "or", "not", "in", "is", "for"];

/// What was read before a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The beginning of a tag.
    Tag,
    /// Something that an expression follows.
    Nothing,
    /// `is`, or `is not`: the name of a test follows.
    Is,
    /// The name of a test: an expression may follow.
    Test,
    /// A point: a name follows.
    Dot,
    /// A name that may be followed by arguments.
    Name,
    /// A name after a point.
    Attribute,
    /// A text or a number.
    Constant,
    /// A bracket that closes.
    Closed,
}

/// Refuses what a template may not use. The tokens are the engine's own, so that both read a text alike.
pub(super) fn check(template: &str) -> Result<(), TemplateError> {
    let syntax = minijinja::syntax::SyntaxConfig;
    let mut before = Before::Nothing;
    // The brackets that are open; true: a pair that holds arguments or an index.
    let mut open: Vec<bool> = Vec::new();
    for token in tokenize(template, false, syntax, WhitespaceConfig::default()) {
        let (token, span) = token.map_err(|error| template_error(&error))?;
        if let Some(what) = refused(&token, before, open.last().copied()) {
            return Err(TemplateError {
                line: usize::from(span.start_line),
                reason: format!("{what} cannot be used here"),
            });
        }
        match token {
            Token::ParenOpen => open.push(matches!(before, Before::Name | Before::Test)),
            Token::BracketOpen => open.push(true),
            Token::ParenClose | Token::BracketClose => {
                open.pop();
            }
            _ => {}
        }
        before = after(&token, before);
    }
    Ok(())
}

fn refused(token: &Token<'_>, before: Before, within: Option<bool>) -> Option<String> {
    let what = match token {
        Token::Ident(name) if before == Before::Tag && !TAGS.contains(name) => {
            return Some(format!("the tag `{name}` (there are {})", TAGS.join(", ")));
        }
        Token::Ident("recursive") => "`recursive`",
        Token::Mul => "`*`",
        Token::Pow => "`**`",
        Token::Tilde => "`~`",
        Token::Plus => "`+`",
        Token::BraceOpen => "`{` within an expression",
        Token::BracketOpen
            if !matches!(
                before,
                Before::Name | Before::Attribute | Before::Constant | Before::Closed
            ) =>
        {
            "a list (`[`)"
        }
        Token::Comma if within == Some(false) => "a list (`,` in parentheses)",
        Token::ParenOpen if matches!(before, Before::Attribute | Before::Constant | Before::Closed) => {
            "a call (`(` after a value, or a method like `format`)"
        }
        _ => return None,
    };
    Some(what.to_owned())
}

fn after(token: &Token<'_>, before: Before) -> Before {
    match (token, before) {
        (Token::BlockStart, _) => Before::Tag,
        (Token::Dot, _) => Before::Dot,
        (Token::Ident(_), Before::Dot) => Before::Attribute,
        (Token::Ident("not"), Before::Is) | (Token::Ident("is"), _) => Before::Is,
        (Token::Ident(_), Before::Is) => Before::Test,
        (Token::Ident(name), _) if OPERATORS.contains(name) => Before::Nothing,
        (Token::Ident(_), _) => Before::Name,
        (Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_), Before::Dot) => {
            Before::Attribute
        }
        (Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_), _) => Before::Constant,
        (Token::ParenClose | Token::BracketClose, _) => Before::Closed,
        _ => Before::Nothing,
    }
}
