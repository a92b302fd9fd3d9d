//! Finds what a source file uses of its own crate: every `crate::`, `super::` and crate-named path,
//! in `use` lines and anywhere else, in macros too. Comments, strings and tests do not count.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The name under which the crate's binary sees its library.
const LIBRARY: &str = "hypervisor";

/// A use of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The path from the root of the crate, such as `["vt", "svm"]`; at most two parts.
    pub path: Vec<String>,
    /// The line, from 1.
    pub line: usize,
}

/// The references in `text`, which is the source of the module at `module`.
pub fn find(text: &str, module: &[&str]) -> Result<Vec<Reference>, String> {
    let tokens: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
    let mut scan = Scan {
        references: Vec::new(),
    };
    let module: Vec<String> = module.iter().map(|part| (*part).to_owned()).collect();
    scan.tokens(&trees(tokens), &module);
    Ok(scan.references)
}

struct Scan {
    references: Vec<Reference>,
}

impl Scan {
    fn tokens(&mut self, tokens: &[TokenTree], module: &[String]) {
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            let rest = &tokens[index..];
            if let Some(length) = test_item(rest) {
                index += length;
                continue;
            }
            if let Some((name, body)) = inline_module(rest) {
                let inner: Vec<String> = module.iter().cloned().chain([name]).collect();
                self.tokens(&trees(body.stream()), &inner);
                index += 3;
                continue;
            }
            let follows_path = index > 0 && is_punctuation(&tokens[index - 1], ':');
            match token {
                TokenTree::Group(group) => self.tokens(&trees(group.stream()), module),
                TokenTree::Ident(_) if !follows_path => self.path(rest, module),
                _ => {}
            }
            index += 1;
        }
    }

    /// Records the path that begins here, if it leads into the crate.
    fn path(&mut self, tokens: &[TokenTree], module: &[String]) {
        let (mut base, mut rest) = match identifier(tokens.first()).as_deref() {
            Some("crate" | LIBRARY) => (Vec::new(), &tokens[1..]),
            Some("super") => (parent(module), &tokens[1..]),
            _ => return,
        };
        while separator(rest) && identifier(rest.get(2)).as_deref() == Some("super") {
            base = parent(&base);
            rest = &rest[3..];
        }
        if separator(rest) {
            self.branch(&rest[2..], base);
        }
    }

    /// Follows a path from `base`, into every arm of a `{...}` group.
    fn branch(&mut self, tokens: &[TokenTree], base: Vec<String>) {
        match tokens.first() {
            Some(TokenTree::Ident(name)) => {
                let line = name.span().start().line;
                let path: Vec<String> = base.into_iter().chain([name.to_string()]).collect();
                if path.len() < 2 && separator(&tokens[1..]) {
                    self.branch(&tokens[3..], path);
                } else {
                    self.references.push(Reference { path, line });
                }
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner = trees(group.stream());
                for arm in inner.split(|token| is_punctuation(token, ',')) {
                    self.branch(arm, base.clone());
                }
            }
            Some(other) => self.references.push(Reference {
                path: base,
                line: other.span().start().line,
            }),
            None => {}
        }
    }
}

fn trees(stream: TokenStream) -> Vec<TokenTree> {
    stream.into_iter().collect()
}

fn parent(module: &[String]) -> Vec<String> {
    let length = module.len().saturating_sub(1);
    module.iter().take(length).cloned().collect()
}

fn identifier(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(name)) => Some(name.to_string()),
        _ => None,
    }
}

fn is_punctuation(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punctuation) if punctuation.as_char() == character)
}

/// Whether the tokens begin with `::`.
fn separator(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [one, two, ..] if is_punctuation(one, ':') && is_punctuation(two, ':'))
}

/// `mod name { ... }`
fn inline_module(tokens: &[TokenTree]) -> Option<(String, &Group)> {
    match tokens {
        [TokenTree::Ident(keyword), TokenTree::Ident(name), TokenTree::Group(body), ..]
            if *keyword == "mod" =>
        {
            Some((name.to_string(), body))
        }
        _ => None,
    }
}

/// The length of an item that begins with `#[cfg(test)]`: up to its body or its semicolon.
fn test_item(tokens: &[TokenTree]) -> Option<usize> {
    let [hash, TokenTree::Group(attribute), ..] = tokens else {
        return None;
    };
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    if !is_punctuation(hash, '#') || text != "cfg(test)" {
        return None;
    }
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        other => is_punctuation(other, ';'),
    };
    let body = tokens.iter().skip(2).position(ends)?;
    Some(2 + body + 1)
}
