//! Expressions in CEL over the attributes. What they cost is no time of the guest's, so it is bounded by what they may
//! look like.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Env, ExecutionError, Value,
    common::ast::{EntryExpr, Expr, IdedEntryExpr},
    extractors::This,
    objects::Key,
    parser::{Expression, PrattParser},
};
use chrono::{DateTime, TimeDelta};
use regex::RegexBuilder;

use crate::wasm::proxy_wasm::{
    abi::{Answer, Fault, Status},
    call::Call,
    imports::{attribute::Attribute, properties},
};

/// Of one root.
const MAX_EXPRESSIONS: usize = 256;
const MAX_BYTES: usize = 16 << 10;
/// An expression nests by its signs and by `in`, not always visibly (`1+1+1`), and parser and interpreter recurse: they
/// take up to 2 KiB of the stack for each.
const MAX_SIGNS: usize = 500;
/// Each copies what is left of it.
const MAX_SUMS: usize = 32;
const MAX_PATTERNS: usize = 8;
/// Of one pattern, compiled.
const PATTERN_BYTES: usize = 256 << 10;

static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Those of a root, by token.
#[derive(Default)]
pub struct Expressions {
    next: u32,
    all: HashMap<u32, Rc<Expression>>,
}

pub fn create(call: &mut Call<'_>, text: &[u8]) -> Answer<Vec<u8>> {
    let text = str::from_utf8(text).map_err(|_| Status::BadArgument)?;
    let expression = parse(text).ok_or(Status::BadArgument)?;
    let Expressions { next, all } = &mut call.data().root()?.expressions;
    if all.len() >= MAX_EXPRESSIONS {
        return Err(Status::InternalFailure.into());
    }
    while all.contains_key(next) {
        *next = next.wrapping_add(1);
    }
    let token = *next;
    *next = next.wrapping_add(1);
    all.insert(token, Rc::new(expression));
    Ok(token.to_le_bytes().to_vec())
}

pub fn evaluate(call: &mut Call<'_>, token: &[u8]) -> Answer<Vec<u8>> {
    let token = token_of(token)?;
    let data = call.data();
    let expression = data.root()?.expressions.all.get(&token).cloned().ok_or(Status::NotFound)?;
    let value = value_of(&expression, |name| properties::tree(data, &[name]));
    value.map_err(|_| Fault::Status(Status::InternalFailure))?.encode()
}

pub fn delete(call: &mut Call<'_>, token: &[u8]) -> Answer<Vec<u8>> {
    let token = token_of(token)?;
    call.data().root()?.expressions.all.remove(&token);
    Ok(Vec::new())
}

fn token_of(bytes: &[u8]) -> Answer<u32> {
    Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| Status::BadArgument)?))
}

/// None where it is none, or too much of one. What is wrong with it is not told: the parser's own words panic where lines
/// are long.
fn parse(text: &str) -> Option<Expression> {
    let signs = text.bytes().filter(u8::is_ascii_punctuation).count() + text.matches("in").count();
    let fits = text.len() <= MAX_BYTES
        && signs <= MAX_SIGNS
        && text.matches('+').count() <= MAX_SUMS
        && text.matches("matches").count() <= MAX_PATTERNS;
    let expression = fits.then(|| guarded(|| PrattParser::new().parse(text).ok())).flatten()?;
    (!has_loop(&expression)).then_some(expression)
}

/// Those that macros make, such as `all` and `map`: their cost grows with the list, and with each one in another.
fn has_loop(expression: &Expression) -> bool {
    let in_entry = |entry: &IdedEntryExpr| match &entry.expr {
        EntryExpr::StructField(field) => has_loop(&field.value),
        EntryExpr::MapEntry(entry) => has_loop(&entry.key) || has_loop(&entry.value),
    };
    match &expression.expr {
        Expr::Comprehension(_) => true,
        Expr::Call(call) => call.target.as_deref().is_some_and(has_loop) || call.args.iter().any(has_loop),
        Expr::List(list) => list.elements.iter().any(has_loop),
        Expr::Map(map) => map.entries.iter().any(in_entry),
        Expr::Struct(literal) => literal.entries.iter().any(in_entry),
        Expr::Select(select) => has_loop(&select.operand),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => false,
    }
}

/// Only what it refers to is looked up.
fn value_of(
    expression: &Expression,
    mut attribute: impl FnMut(&str) -> Option<Attribute>,
) -> Result<Attribute, ExecutionError> {
    let mut context = Context::with_env(STANDARD.clone());
    let added = context.add_function("matches", matches);
    added.map_err(|error| ExecutionError::InternalError(error.to_string()))?;
    for name in expression.references().variables() {
        if let Some(attribute) = attribute(name) {
            context.add_variable_from_value(name, to_value(attribute));
        }
    }
    let value = guarded(|| Some(Value::resolve(expression, &context)));
    value.unwrap_or_else(|| Err(ExecutionError::InternalError("panicked".to_owned()))).map(of_value)
}

/// A fault of the library is one of the call, not of the worker.
fn guarded<T>(run: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok().flatten()
}

/// That of the library compiles patterns of any size.
fn matches(This(text): This<Arc<String>>, pattern: Arc<String>) -> Result<bool, ExecutionError> {
    let pattern = RegexBuilder::new(&pattern).size_limit(PATTERN_BYTES).build();
    let pattern = pattern.map_err(|error| ExecutionError::function_error("matches", error))?;
    Ok(pattern.is_match(&text))
}

fn to_value(attribute: Attribute) -> Value {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    match attribute {
        Attribute::Null => Value::Null,
        Attribute::Bool(value) => Value::Bool(value),
        Attribute::Int(value) => Value::Int(value),
        Attribute::Uint(value) => Value::UInt(value),
        Attribute::Double(value) => Value::Float(value),
        Attribute::Text(value) => text(value).into(),
        Attribute::Bytes(value) => value.into(),
        Attribute::Time(nanos) => Value::Timestamp(DateTime::from_timestamp_nanos(nanos).fixed_offset()),
        Attribute::Duration(nanos) => Value::Duration(TimeDelta::nanoseconds(nanos)),
        Attribute::List(values) => values.into_iter().map(to_value).collect::<Vec<_>>().into(),
        Attribute::Map(entries) => {
            let entry = |(name, value)| (text(name), to_value(value));
            entries.into_iter().map(entry).collect::<HashMap<_, _>>().into()
        }
    }
}

/// Null where it cannot be told.
fn of_value(value: Value) -> Attribute {
    let key = |key: &Key| match key {
        Key::Bool(value) => vec![u8::from(*value)],
        Key::Int(value) => value.to_le_bytes().to_vec(),
        Key::Uint(value) => value.to_le_bytes().to_vec(),
        Key::String(value) => value.as_bytes().to_vec(),
    };
    match value {
        Value::Bool(value) => Attribute::Bool(value),
        Value::Int(value) => Attribute::Int(value),
        Value::UInt(value) => Attribute::Uint(value),
        Value::Float(value) => Attribute::Double(value),
        Value::String(value) => Attribute::text(&value),
        Value::Bytes(value) => Attribute::Bytes(Arc::unwrap_or_clone(value)),
        Value::Timestamp(time) => time.timestamp_nanos_opt().map_or(Attribute::Null, Attribute::Time),
        Value::Duration(duration) => duration.num_nanoseconds().map_or(Attribute::Null, Attribute::Duration),
        Value::List(values) => Attribute::List(values.iter().cloned().map(of_value).collect()),
        Value::Map(map) => {
            let entry = |(name, value): (&Key, &Value)| (key(name), of_value(value.clone()));
            let mut entries: Vec<_> = map.map.iter().map(entry).collect();
            entries.sort_by(|(one, _), (other, _)| one.cmp(other));
            Attribute::Map(entries)
        }
        Value::Null | Value::Function(..) | Value::Opaque(_) | Value::Struct(_) => Attribute::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str) -> Option<Attribute> {
        let entries = |entries: Vec<(&str, Attribute)>| {
            Attribute::Map(entries.into_iter().map(|(key, value)| (key.as_bytes().to_vec(), value)).collect())
        };
        Some(match name {
            "request" => entries(vec![
                ("path", Attribute::text("/a/b")),
                ("size", Attribute::Int(7)),
                ("time", Attribute::Time(1_500_000_000)),
                ("duration", Attribute::Duration(2_000_000_000)),
                ("headers", entries(vec![("x-key", Attribute::text("v"))])),
            ]),
            "bytes" => Attribute::Bytes(vec![0, 0xFF]),
            "no_text" => Attribute::Text(vec![b'a', 0xFF]),
            "large" => Attribute::Text(vec![b'a'; 64 << 10]),
            _ => return None,
        })
    }

    fn evaluated(text: &str) -> Result<Attribute, &'static str> {
        value_of(&parse(text).ok_or("refused")?, attribute).map_err(|_| "failed")
    }

    #[test]
    fn expressions_have_values() {
        for (text, expected) in [
            ("request.path", Attribute::text("/a/b")),
            ("request['path'] + '?'", Attribute::text("/a/b?")),
            ("request.size * 2", Attribute::Int(14)),
            ("request.size == 7 && request.path.startsWith('/a')", Attribute::Bool(true)),
            ("request.headers['x-key'] == 'v'", Attribute::Bool(true)),
            ("has(request.headers.none) || 'x-key' in request.headers", Attribute::Bool(true)),
            ("request.path.matches('^/[ab]/') ? 1.5 : 2.5", Attribute::Double(1.5)),
            ("matches(request.path, 'c')", Attribute::Bool(false)),
            ("request.time", Attribute::Time(1_500_000_000)),
            ("request.time + request.duration", Attribute::Time(3_500_000_000)),
            ("duration('1ms')", Attribute::Duration(1_000_000)),
            ("bytes", Attribute::Bytes(vec![0, 0xFF])),
            ("no_text", Attribute::text("a\u{FFFD}")),
            ("2u", Attribute::Uint(2)),
            ("null", Attribute::Null),
            ("[1]", Attribute::List(vec![Attribute::Int(1)])),
            (
                "{'b': 1, 'a': true}",
                Attribute::Map(vec![
                    (b"a".to_vec(), Attribute::Bool(true)),
                    (b"b".to_vec(), Attribute::Int(1)),
                ]),
            ),
            ("timestamp('0001-01-01T00:00:00Z')", Attribute::Null),
        ] {
            assert_eq!(evaluated(text), Ok(expected), "{text}");
        }
        for text in ["none", "request.none", "1 / 0", "1 + 'a'", "none()", "'a'.matches('(')"] {
            assert_eq!(evaluated(text), Err("failed"), "{text}");
        }
        for text in ["", "((", "a b", "[1].all(x, x > 0)", "{1: [[2].map(x, x)]}", "f([1].exists(x, true)).a"]
        {
            assert_eq!(evaluated(text), Err("refused"), "{text}");
        }
    }

    /// Nothing overflows a stack or takes long, however deep or long it is.
    #[test]
    fn what_would_cost_much_is_refused_or_fails() {
        let sizes = [100, 249, 500, 100_000];
        for count in sizes {
            for (start, each, end) in [
                ("", "(", ""),
                ("", "[", ""),
                ("", "{", ""),
                ("", "!", "true"),
                ("", "!-", "1"),
                ("1", "+1", ""),
                ("1", "*1", ""),
                ("1", "<1", ""),
                ("a", ".a", ""),
                ("a", "[0]", ""),
                ("", "a?", "1"),
                ("", "true?1:", "1"),
                ("", "size(", ""),
                ("a", ".size()", ""),
                ("1", " in 1", ""),
                ("", "\"", ""),
                ("", "`", ""),
                ("", "{1:", ""),
                ("a", "{a:", ""),
                ("true", "&&true", ""),
                ("", "\u{1F600}", ""),
                ("", "'\\", ""),
                ("", "//\n", ""),
                ("[", "large,", "1]"),
                ("large", "+large", ""),
                ("", "[1].all(x,", ""),
            ] {
                let text = [start, &each.repeat(count), end].concat();
                let result = evaluated(&text);
                assert!(count < 100_000 || result == Err("refused"), "{text:.20}");
            }
        }
        let pattern = "large.matches('(a|b)*a(a|b){3000}c')";
        assert_eq!(evaluated(pattern), Err("failed"));
        assert_eq!(evaluated(&[pattern; 9].join("||")), Err("refused"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_answered(text: String) {
            _ = evaluated(&text);
        }

        #[test]
        fn anything_like_an_expression_is_answered(
            words in proptest::collection::vec(proptest::sample::select(vec![
                "request", ".path", ".size", "headers", "bytes", "large", "1", "0", "-", "2u", "1.5", "'a'", "b'a'", "\"", "[",
                "]", "(", ")", "{", "}", ",", ":", "?", "!", "+", "*", "/", "%", "<", "==", "&&", "||", " in ", "has(",
                "size(", "string(", "int(", "timestamp(", "duration(", "matches(", ".matches(", "type(", "dyn(", "null",
                "9223372036854775807", "-9223372036854775808", "1e400", "r'\\'", ".getHours(", "optional.of(", "'1h'",
            ]), 0..24),
        ) {
            _ = evaluated(&words.concat());
        }
    }
}
