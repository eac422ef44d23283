//! `--format`: the part of Go's templates that people use, on JSON.
//!
//! Text, and between `{{` and `}}` one of: a field as in `.State.Status`, `.` itself, `json FIELD`, `len FIELD`,
//! `upper FIELD`, `lower FIELD`, `join FIELD "SEPARATOR"`, `index FIELD "KEY"`, and docker's `.Label "NAME"`.

use serde_json::Value;

/// A template that has been understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Template {
    parts: Vec<Part>,
    /// Whether it began with docker's `table`.
    pub(super) is_table: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    Action { function: Option<Function>, path: Vec<String>, argument: Option<String> },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Function {
    Index,
    Join,
    Json,
    Len,
    Lower,
    Upper,
}

/// What is wrong with a template, or with what it asks for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum TemplateError {
    #[error("`{{{{` without `}}}}`")]
    Open,
    #[error("`{{{{{0}}}}}` is not supported")]
    Unsupported(String),
    #[error("there is no field `.{0}`")]
    NoField(String),
}

impl Template {
    /// Parses a template; `\t` and `\n` stand for what they stand for everywhere.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let (is_table, text) = match text.strip_prefix("table ") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let (mut rest, mut parts) = (text.as_str(), Vec::new());
        while let Some((before, action)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (action, behind) = action.split_once("}}").ok_or(TemplateError::Open)?;
            parts.push(parse_action(action.trim())?);
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts, is_table })
    }

    /// The text that it makes of `value`.
    pub(super) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Action { function, path, argument } => {
                    text.push_str(&evaluate(*function, path, argument.as_deref(), value)?);
                }
            }
        }
        Ok(text)
    }

    /// The names of the columns of a table, for which docker writes `Names` as `NAMES` and `CreatedAt` as `CREATED AT`.
    pub(super) fn header(&self) -> String {
        let name = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Action { path, argument, .. } => match path.last().map(String::as_str) {
                Some("ID") => "CONTAINER ID".to_owned(),
                Some("Label") => argument.clone().unwrap_or_default(),
                Some(name) => heading(name),
                None => String::new(),
            },
        };
        self.parts.iter().map(name).collect()
    }
}

fn heading(name: &str) -> String {
    let mut text = String::new();
    let mut before = ' ';
    for letter in name.chars() {
        if letter.is_uppercase() && before.is_lowercase() {
            text.push(' ');
        }
        text.extend(letter.to_uppercase());
        before = letter;
    }
    text
}

fn parse_action(action: &str) -> Result<Part, TemplateError> {
    let unsupported = || TemplateError::Unsupported(action.to_owned());
    let (action, quoted) = match action.split_once('"') {
        Some((before, rest)) => {
            let argument = rest.strip_suffix('"').filter(|text| !text.contains('"'));
            (before.trim(), Some(argument.ok_or_else(unsupported)?.to_owned()))
        }
        None => (action, None),
    };
    let (function, field) = match action.split_once(char::is_whitespace) {
        None => (None, action),
        Some((name, field)) => {
            let function = match name {
                "index" => Function::Index,
                "join" => Function::Join,
                "json" => Function::Json,
                "len" => Function::Len,
                "lower" => Function::Lower,
                "upper" => Function::Upper,
                _ => return Err(unsupported()),
            };
            (Some(function), field.trim())
        }
    };
    let path = field.strip_prefix('.').ok_or_else(unsupported)?;
    let word =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    let path: Vec<String> = match path {
        "" => Vec::new(),
        path => path.split('.').map(str::to_owned).collect(),
    };
    let wants = matches!(function, Some(Function::Index | Function::Join))
        || (function.is_none() && path == ["Label"]);
    if !path.iter().all(|part| word(part)) || wants != quoted.is_some() {
        return Err(unsupported());
    }
    Ok(Part::Action { function, path, argument: quoted })
}

fn evaluate(
    function: Option<Function>,
    path: &[String],
    argument: Option<&str>,
    value: &Value,
) -> Result<String, TemplateError> {
    let argument = argument.unwrap_or_default();
    if function.is_none() && path == ["Label"] {
        return Ok(label(value, argument));
    }
    let mut found = value;
    for (depth, name) in path.iter().enumerate() {
        let path = || path.get(..=depth).unwrap_or_default().join(".");
        found = found.get(name).ok_or_else(|| TemplateError::NoField(path()))?;
    }
    Ok(match function {
        None => plain(found),
        Some(Function::Json) => found.to_string(),
        Some(Function::Len) => match found {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            Value::String(text) => text.len(),
            _ => 0,
        }
        .to_string(),
        Some(Function::Lower) => plain(found).to_lowercase(),
        Some(Function::Upper) => plain(found).to_uppercase(),
        Some(Function::Join) => match found {
            Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(argument),
            other => plain(other),
        },
        Some(Function::Index) => found.get(argument).map(plain).unwrap_or_default(),
    })
}

/// The label `name` in a list as docker prints it: `a=1,b=2`.
fn label(value: &Value, name: &str) -> String {
    let labels = value.get("Labels").and_then(Value::as_str).unwrap_or_default();
    let mut found = labels.split(',').filter_map(|label| label.split_once('='));
    found.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).unwrap_or_default()
}

/// A value as Go prints it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}:{}", plain(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> Result<String, TemplateError> {
        let value = json!({
            "ID": "abc", "Labels": "a=1,b=x=y", "Args": ["x", "y"],
            "State": { "Status": "running", "Pid": 7, "Health": null, "Paused": false },
        });
        Template::parse(template).and_then(|template| template.render(&value))
    }

    #[test]
    fn fields_and_functions() {
        for (template, text) in [
            ("plain", "plain"),
            ("{{.ID}}: {{ .State.Status }}", "abc: running"),
            ("{{.State.Pid}}\\t{{.State.Paused}}", "7\tfalse"),
            ("{{json .Args}}", r#"["x","y"]"#),
            ("{{json .State.Health}}", "null"),
            ("{{.Args}}", "[x y]"),
            ("{{join .Args \", \"}}", "x, y"),
            ("{{len .Args}}", "2"),
            ("{{upper .ID}}", "ABC"),
            ("{{index .State \"Status\"}}", "running"),
            ("{{.Label \"b\"}}", "x=y"),
            ("{{.Label \"c\"}}", ""),
        ] {
            assert_eq!(render(template).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        assert_eq!(render("{{.ID"), Err(TemplateError::Open));
        assert_eq!(render("{{.State.Nosuch}}"), Err(TemplateError::NoField("State.Nosuch".into())));
        for bad in
            ["{{range .Args}}", "{{ID}}", "{{}}", "{{join .Args}}", "{{.Args \"x\"}}", "{{.a..b}}"]
        {
            assert!(matches!(render(bad), Err(TemplateError::Unsupported(_))), "{bad}");
        }
    }

    #[test]
    fn headers() {
        let template = Template::parse("table {{.ID}}\t{{.CreatedAt}}\t{{.Names}}").unwrap();
        assert!(template.is_table);
        assert_eq!(template.header(), "CONTAINER ID\tCREATED AT\tNAMES");
    }
}
