//! One line of comma-separated values, as Go's `encoding/csv` reads it (RFC 4180).

use super::error::MountFault;

/// The fields of a line. One in double quotes may have commas and, doubled, quotes.
pub(super) fn fields(line: &str) -> Result<Vec<String>, MountFault> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, behind) = rest.split_at(end);
                if field.contains('"') {
                    return Err(MountFault::Quotes);
                }
                (field.to_owned(), behind)
            }
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if behind.is_empty() => return Ok(fields),
            None => return Err(MountFault::Quotes),
        }
    }
}

/// A field behind its opening quote, and what comes behind it.
fn quoted_field(mut rest: &str) -> Result<(String, &str), MountFault> {
    let mut field = String::new();
    loop {
        let (text, behind) = rest.split_once('"').ok_or(MountFault::Quotes)?;
        field.push_str(text);
        match behind.strip_prefix('"') {
            Some(behind) => {
                field.push('"');
                rest = behind;
            }
            None => return Ok((field, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_commas() {
        assert_eq!(fields("a,b=c,").unwrap(), ["a", "b=c", ""]);
        assert_eq!(fields("\"a,b\",\"say \"\"x\"\"\"").unwrap(), ["a,b", "say \"x\""]);
        for bad in ["a\"b", "\"a", "\"a\"b", "\"a\"\""] {
            assert_eq!(fields(bad), Err(MountFault::Quotes), "{bad}");
        }
    }
}
