//! What is wrong with a document, and how a person reads it. It knows no rule of the config.

use std::{error::Error, fmt, ops::Range, sync::Arc};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Files, key_path::KeyPath, source::Source};

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The value or key at fault; the root for the document as a whole.
    pub path: KeyPath,
    /// Its bytes in the text; none where there is no text, as for a file that cannot be read.
    pub span: Option<Range<usize>>,
    /// Never shows a value that came from `${env:...}` or `${file:...}`.
    pub message: String,
    pub help: Option<String>,
    /// Another place that explains the fault, and what it is.
    pub also: Option<(Range<usize>, String)>,
    /// Where it stands, if that is not the document that the others are of.
    pub document: Option<Arc<Document>>,
}

/// A document that another one names.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Document {
    pub name: String,
    pub text: String,
}

impl Problem {
    /// At the value of `path`, or at the nearest table around it that the document has.
    pub fn at_value(source: &Source, path: &KeyPath, message: impl Into<String>) -> Self {
        Self::new(path.clone(), Some(source.value_span(path)), message)
    }

    /// At the last key of `path`.
    pub fn at_key(source: &Source, path: &KeyPath, message: impl Into<String>) -> Self {
        Self::new(path.clone(), Some(source.key_span(path)), message)
    }

    pub fn new(path: KeyPath, span: Option<Range<usize>>, message: impl Into<String>) -> Self {
        let message = message.into();
        Problem { path, span, message, help: None, also: None, document: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub fn also(mut self, span: Range<usize>, what: impl Into<String>) -> Self {
        self.also = Some((span, what.into()));
        self
    }

    pub fn within(mut self, document: &Arc<Document>) -> Self {
        self.document = Some(document.clone());
        self
    }
}

/// All faults of one document and of those that it names, in order of position. `Display` shows each with its line of the document.
pub struct Problems {
    name: String,
    text: String,
    list: Vec<Problem>,
    files: Files,
}

impl Problems {
    pub fn new(source: &Source, list: Vec<Problem>) -> Self {
        Self::of_text(source.name(), source.text(), list)
    }

    /// `name` is what the document is called in messages, usually its path.
    pub fn of_text(name: &str, text: &str, mut list: Vec<Problem>) -> Self {
        let place = |p: &Problem| (p.document.clone(), p.span.as_ref().map(|span| span.start));
        list.sort_by_cached_key(place);
        list.dedup();
        Problems { name: name.to_owned(), text: text.to_owned(), list, files: Files::default() }
    }

    pub fn with_files(mut self, files: &Files) -> Self {
        self.files.extend(files);
        self
    }

    /// Files whose change may make the document good: those that are known so far.
    pub fn files(&self) -> &Files {
        &self.files
    }

    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Each fault in one line, for logs: `FILE:LINE:COLUMN: error: PATH: MESSAGE`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|problem| self.headline(problem))
    }

    /// Name and text of what the problem stands in.
    fn document<'a>(&'a self, problem: &'a Problem) -> (&'a str, &'a str) {
        let document = problem.document.as_ref();
        document.map_or((&self.name, &self.text), |document| (&document.name, &document.text))
    }

    fn headline(&self, problem: &Problem) -> String {
        let (name, text) = self.document(problem);
        let mut line = name.to_owned();
        if let Some(span) = &problem.span {
            let (row, column) = position(text, span.start);
            line += &format!(":{row}:{column}");
        }
        line += ": error: ";
        if !problem.path.steps().is_empty() {
            line += &format!("{}: ", problem.path);
        }
        line + &problem.message
    }

    fn excerpt(&self, problem: &Problem) -> Option<String> {
        let span = problem.span.clone()?;
        let (_, text) = self.document(problem);
        let mark = AnnotationKind::Primary.span(first_line(text, span));
        let mut snippet = Snippet::source(text).annotation(mark);
        if let Some((span, what)) = &problem.also {
            let mark = AnnotationKind::Context.span(first_line(text, span.clone()));
            snippet = snippet.annotation(mark.label(what));
        }
        let mut group = Group::with_level(Level::ERROR).element(snippet);
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help));
        }
        Some(Renderer::plain().render(&[group]))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "\n\n" })?;
            f.write_str(&self.headline(problem))?;
            match (self.excerpt(problem), &problem.help) {
                (Some(excerpt), _) => write!(f, "\n{excerpt}")?,
                (None, Some(help)) => write!(f, "\n  = help: {help}")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Problems {}

/// The candidate that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let tolerated = (word.chars().count() / 3).max(1);
    let distances = candidates.into_iter().map(|c| (strsim::damerau_levenshtein(word, c), c));
    let (distance, candidate) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= tolerated).then_some(candidate)
}

/// Line and column of a byte, both from 1; columns count characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..floor(text, at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let row = before.matches('\n').count() + 1;
    (row, before[line_start..].chars().count() + 1)
}

/// Long values are marked where they begin only.
fn first_line(text: &str, span: Range<usize>) -> Range<usize> {
    let (start, end) = (floor(text, span.start), floor(text, span.end));
    let length = text[start..end].find(['\r', '\n']).unwrap_or(end - start);
    start..start + length
}

/// The start of the character that holds this byte, so that any span is safe to slice with.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

#[cfg(test)]
mod tests {
    use super::{KeyPath, Problem, Problems, nearest, position};

    #[test]
    fn near_names() {
        assert_eq!(nearest("upstrem", ["plugins", "upstream"]), Some("upstream"));
        assert_eq!(nearest("a", ["b"]), Some("b"));
        assert_eq!(nearest("users", ["orders", "billing"]), None);
        assert_eq!(nearest("users", []), None);
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(position("a\nöb", 4), (2, 2));
        assert_eq!(position("a\n", 2), (2, 1));
        assert_eq!(position("", 9), (1, 1));
    }

    #[test]
    fn lines_for_logs_have_the_place_and_no_excerpt() {
        let path = KeyPath::root().key("log").key("level");
        let problem = Problem::new(path, Some(14..17), "unknown level").help("try `info`");
        let problems = Problems::of_text("g.toml", "[log]\nlevel = \"x\"\n", vec![problem]);
        let lines: Vec<_> = problems.lines().collect();
        assert_eq!(lines, ["g.toml:2:9: error: log.level: unknown level"]);
    }

    #[test]
    fn a_document_that_cannot_be_read_has_no_position() {
        let problem = Problem::new(KeyPath::root(), None, "cannot be read").help("is it there?");
        let shown = Problems::of_text("g.toml", "", vec![problem]).to_string();
        assert_eq!(shown, "g.toml: error: cannot be read\n  = help: is it there?");
    }
}
