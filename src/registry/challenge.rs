//! `WWW-Authenticate`: how a registry wants to be convinced (RFC 9110, section 11.6.1).

/// One way of authentication that a server offers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Challenge {
    /// User name and password with each request (RFC 7617).
    Basic,
    /// A token from another service.
    Bearer {
        /// The token service's address.
        realm: String,
        /// The name that the service knows the registry by.
        service: Option<String>,
        /// What the token shall allow.
        scope: Option<String>,
    },
}

/// The challenges in a header's value that this program can answer. What it does not understand is passed over.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = header;
    while let Some((scheme, parameters, tail)) = next_challenge(rest) {
        rest = tail;
        let value = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if let (true, Some(realm)) = (scheme.eq_ignore_ascii_case("bearer"), value("realm"))
        {
            let (service, scope) = (value("service"), value("scope"));
            challenges.push(Challenge::Bearer { realm, service, scope });
        }
    }
    challenges
}

type Parameters = Vec<(String, String)>;

fn next_challenge(text: &str) -> Option<(&str, Parameters, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
    if end == 0 {
        return None;
    }
    let (scheme, mut rest) = text.split_at(end);
    let mut parameters = Vec::new();
    loop {
        let at = rest.trim_start_matches([' ', '\t', ',']);
        let end = at.find(|c: char| !is_token(c)).unwrap_or(at.len());
        let (name, after) = at.split_at(end);
        let Some(value) = after.trim_start().strip_prefix('=').filter(|_| end > 0) else {
            // Not `name=`: the next challenge begins here, or nothing that can be read.
            return Some((scheme, parameters, if end > 0 { at } else { "" }));
        };
        let (value, tail) = parse_value(value.trim_start());
        parameters.push((name.to_owned(), value));
        rest = tail;
    }
}

fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub() {
        let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull""#;
        let bearer = Challenge::Bearer {
            realm: "https://auth.docker.io/token".to_owned(),
            service: Some("registry.docker.io".to_owned()),
            scope: Some("repository:library/busybox:pull".to_owned()),
        };
        assert_eq!(parse(header), [bearer]);
    }

    #[test]
    fn several_and_odd_ones() {
        let header = r#"Negotiate, Basic realm="a, \"b\"", bearer Realm=https://x/y"#;
        let bearer =
            Challenge::Bearer { realm: "https://x/y".to_owned(), service: None, scope: None };
        assert_eq!(parse(header), [Challenge::Basic, bearer]);
        for odd in [
            "",
            ",,,",
            "=",
            "Bearer",
            "Bearer realm",
            "Basic realm=\"",
            "\u{e9} Basic",
            "Bearer =x",
            "a=b=c\\",
        ] {
            let _ = parse(odd);
        }
    }
}
