//! The path that a route sends upstream, with the parameters of the matched path in it: `/v2/{id}`.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Parameter(String),
}

impl Template {
    /// The error is the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("`{text}` does not begin with `/`"));
        }
        let outside = |c: char| c.is_control() || c == ' ' || c == '?' || c == '#';
        if let Some(found) = text.chars().find(|c| outside(*c)) {
            return Err(format!("{found:?} does not belong in a path"));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("`{{{after}` is never closed by `}}`"))?;
            pieces.extend([literal_piece(literal)?, Piece::Parameter(parameter(name)?)]);
            rest = after;
        }
        pieces.push(literal_piece(rest)?);
        pieces.retain(|piece| *piece != Piece::Literal(String::new()));
        Ok(Template(pieces))
    }

    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Parameter(name) => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }

    /// The path, with each parameter replaced by what `value` gives for its name; nothing if it gives none.
    pub fn fill<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> String {
        let text = |piece: &Piece, path: &mut String| match piece {
            Piece::Literal(literal) => path.push_str(literal),
            Piece::Parameter(name) => path.push_str(value(name).unwrap_or_default()),
        };
        self.0.iter().fold(String::new(), |mut path, piece| {
            text(piece, &mut path);
            path
        })
    }
}

fn literal_piece(literal: &str) -> Result<Piece, String> {
    match literal.contains('}') {
        true => Err("`}` closes nothing".to_owned()),
        false => Ok(Piece::Literal(literal.to_owned())),
    }
}

fn parameter(name: &str) -> Result<String, String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match !name.is_empty() && name.chars().all(word) {
        true => Ok(name.to_owned()),
        false => Err(format!("`{{{name}}}` names no parameter: write `{{name}}`, for a tail too")),
    }
}

#[cfg(test)]
mod tests {
    use super::Template;

    #[test]
    fn fills_in_parameters() {
        let template = Template::parse("/v2/{id}/x/{rest}").expect("a template");
        assert_eq!(template.parameters().collect::<Vec<_>>(), ["id", "rest"]);
        let value = |name: &str| (name == "id").then_some("7");
        assert_eq!(template.fill(value), "/v2/7/x/");
        assert_eq!(Template::parse("/").expect("a template").fill(|_| None), "/");
    }

    #[test]
    fn what_is_no_template() {
        for text in ["", "v2", "/{", "/{}", "/}", "/{a}}", "/{a*}", "/a?b", "/a#b", "/a b", "/{a{b}}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
