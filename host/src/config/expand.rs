//! `${env:NAME}` and `${file:PATH}` inside strings. It reads the environment and files, and knows no TOML.

use std::{env, fs, io, path::Path};

use super::Files;

/// A string after expansion.
#[derive(Debug, Default, PartialEq)]
pub struct Expanded {
    pub text: String,
    /// Something was taken from outside: `text` may be a secret.
    pub secret: bool,
}

/// Replaces `${env:NAME}` by that variable and `${file:PATH}` by the content of that file, less one newline
/// at its end. PATH is relative to `base`. `$${` is a literal `${`; so is one that names no source, as in the
/// templates of plugins.
///
/// The error is the reason. All files named are noted, also those that cannot be read.
pub fn expand(text: &str, base: &Path, files: &mut Files) -> Result<Expanded, String> {
    let mut expanded = Expanded::default();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = (&rest[..at], &rest[at + 2..]);
        if let Some(escaped) = before.strip_suffix('$') {
            expanded.text.push_str(escaped);
            expanded.text.push_str("${");
            rest = reference;
            continue;
        }
        expanded.text.push_str(before);
        if !names_a_source(reference) {
            expanded.text.push_str("${");
            rest = reference;
            continue;
        }
        rest = take(reference, base, files, &mut expanded)?;
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

/// What expands to this text.
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = (&rest[..at], &rest[at + 2..]);
        escaped.push_str(before);
        escaped.push_str(if before.ends_with('$') || names_a_source(reference) { "$${" } else { "${" });
        rest = reference;
    }
    escaped + rest
}

/// A word and a colon: everything else in `${...}` is a plugin's own template.
fn names_a_source(reference: &str) -> bool {
    let word = reference.bytes().take_while(u8::is_ascii_alphanumeric).count();
    word > 0 && reference.as_bytes().get(word) == Some(&b':')
}

/// Appends what the reference stands for, gives back what follows it.
fn take<'a>(
    reference: &'a str,
    base: &Path,
    files: &mut Files,
    into: &mut Expanded,
) -> Result<&'a str, String> {
    let (inner, rest) =
        reference.split_once('}').ok_or("`${` is never closed by `}`; a literal `${` is written `$${`")?;
    let value = match inner.split_once(':') {
        Some((_, "")) => Err(format!("`${{{inner}}}` names nothing")),
        Some(("env", name)) => variable(name),
        Some(("file", path)) => {
            let file = base.join(path);
            files.note(file.clone());
            content(&file).map_err(|error| format!("cannot read file `{path}`: {error}"))
        }
        _ => Err(format!(
            "`${{{inner}}}` is neither `${{env:NAME}}` nor `${{file:PATH}}`; a literal `${{` is written `$${{`"
        )),
    }?;
    into.text.push_str(&value);
    into.secret = true;
    Ok(rest)
}

fn variable(name: &str) -> Result<String, String> {
    if name.contains(['=', '\0']) {
        return Err(format!("`{}` cannot name an environment variable", name.escape_debug()));
    }
    env::var(name).map_err(|error| match error {
        env::VarError::NotPresent => format!("environment variable `{name}` is not set"),
        env::VarError::NotUnicode(_) => format!("environment variable `{name}` is not UTF-8"),
    })
}

fn content(file: &Path) -> io::Result<String> {
    let content = fs::read_to_string(file)?;
    let line = content.strip_suffix('\n').unwrap_or(&content);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Expanded, Files};

    fn expand(text: &str, base: &Path) -> Result<Expanded, String> {
        super::expand(text, base, &mut Files::default())
    }

    fn text(of: &str) -> String {
        expand(of, Path::new(".")).expect("expands").text
    }

    #[test]
    fn plain_text_and_escapes_are_no_secrets() {
        for (given, expanded) in [
            ("", ""),
            ("a$b", "a$b"),
            ("^/x$", "^/x$"),
            ("$${env:HOME}", "${env:HOME}"),
            ("a $${ $${", "a ${ ${"),
            ("${client.ip} ${x|default('a:b')} ${HOME} ${", "${client.ip} ${x|default('a:b')} ${HOME} ${"),
        ] {
            let result = expand(given, Path::new(".")).expect("expands");
            assert_eq!((result.text.as_str(), result.secret), (expanded, false));
        }
    }

    #[test]
    fn what_is_escaped_expands_to_itself() {
        for (plain, escaped) in [
            ("a$b ${x} ${", "a$b ${x} ${"),
            ("<${env:HOME}>", "<$${env:HOME}>"),
            ("$${x}", "$$${x}"),
            ("$$${env:X}${file:y}", "$$$${env:X}$${file:y}"),
        ] {
            assert_eq!(super::escape(plain), escaped);
            assert_eq!(text(escaped), plain);
        }
    }

    #[test]
    fn variables() {
        let name = std::env::var("CARGO_PKG_NAME").expect("cargo sets it");
        assert_eq!(text("<${env:CARGO_PKG_NAME}>"), format!("<{name}>"));
        assert_eq!(text("${env:CARGO_PKG_NAME}${env:CARGO_PKG_NAME}"), format!("{name}{name}"));
    }

    #[test]
    fn files_lose_one_newline() {
        let folder = tempfile::tempdir().expect("a folder");
        for (content, expanded) in [("k", "k"), ("k\n", "k"), ("k\r\n", "k"), ("k\n\n", "k\n"), ("", "")] {
            fs::write(folder.path().join("secret"), content).expect("written");
            let mut files = Files::default();
            let result = super::expand("${file:secret}", folder.path(), &mut files).expect("expands");
            assert_eq!((result.text.as_str(), result.secret), (expanded, true));
            assert_eq!(files, Files::from_iter([folder.path().join("secret")]));
        }
    }

    #[test]
    fn what_cannot_be_expanded_says_why() {
        for (given, reason) in [
            ("${env:WASMGATE_NO_SUCH}", "environment variable `WASMGATE_NO_SUCH` is not set"),
            ("${env:}", "`${env:}` names nothing"),
            ("${env:A=B}", "cannot name an environment variable"),
            ("${evn:HOME}", "is neither `${env:NAME}` nor `${file:PATH}`"),
            ("${env:HOME", "never closed"),
            ("${file:no/such}", "cannot read file `no/such`"),
        ] {
            let error = expand(given, Path::new(".")).expect_err(given);
            assert!(error.contains(reason), "{error}");
        }
    }
}
