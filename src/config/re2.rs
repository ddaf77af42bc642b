//! RE2's regular expressions, which Istio uses, as programs of the `regex` crate.
//! The two languages are nearly one; what differs is translated here, so that nothing matches otherwise than in Istio.

use std::fmt::Write;

use regex::bytes::{Regex, RegexBuilder};

/// The longest pattern Istio allows.
const MAX_LENGTH: usize = 1024;
/// RE2's limit of `{n}`.
const MAX_REPEAT: u32 = 1000;
/// How large a compiled program may be, in bytes.
const MAX_PROGRAM: usize = 2 << 20;

/// The program that matches a whole string, as Istio's `regex` does; or why this is no pattern of RE2.
pub fn whole(text: &str) -> Result<Regex, String> {
    compile(text, |translated| format!(r"\A(?:{translated})\z"))
}

/// The program that finds the pattern anywhere, as `uriRegexRewrite.match` does; or why this is no pattern of RE2.
pub fn search(text: &str) -> Result<Regex, String> {
    compile(text, str::to_owned)
}

fn compile(text: &str, around: fn(&str) -> String) -> Result<Regex, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!("it is longer than {MAX_LENGTH} bytes"));
    }
    let translated = Translation::of(text)?;
    let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(MAX_PROGRAM).build();
    let unicode = around(&translated.text);
    let built = if translated.ascii {
        build(&format!(r"(?-u){unicode}")).or_else(|_| build(&unicode))
    } else {
        build(&unicode)
    };
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "its program is too large".to_owned(),
        error => reason(&error.to_string()),
    })
}

/// The last line of the crate's message; the others draw the pattern, which the diagnostic does itself.
fn reason(message: &str) -> String {
    let last = message.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// A pattern of RE2 in the words of the `regex` crate.
struct Translation<'p> {
    rest: &'p str,
    text: String,
    /// Nothing in it needs Unicode: it may work on bytes.
    ascii: bool,
    in_class: bool,
}

impl<'p> Translation<'p> {
    fn of(pattern: &'p str) -> Result<Self, String> {
        let mut this = Self { rest: pattern, text: String::new(), ascii: pattern.is_ascii(), in_class: false };
        // Whether the last thing may be repeated, and whether it is a repetition already.
        let mut repeated = false;
        while let Some(c) = this.next() {
            let was_repeated = std::mem::take(&mut repeated);
            match c {
                '\\' => this.escape()?,
                _ if this.in_class => this.class_char(c)?,
                '[' => this.class_start(),
                '*' | '+' | '?' => {
                    if was_repeated {
                        return Err(format!("repetition of a repetition: `{c}`"));
                    }
                    this.text.push(c);
                    this.lazy();
                    repeated = true;
                }
                '{' => match repeat(this.rest) {
                    Some((length, most)) => {
                        if most > MAX_REPEAT {
                            return Err(format!("it repeats more than {MAX_REPEAT} times"));
                        }
                        if was_repeated {
                            return Err("repetition of a repetition: `{`".to_owned());
                        }
                        this.text.push('{');
                        this.take(length);
                        this.lazy();
                        repeated = true;
                    }
                    None => this.text.push_str(r"\{"),
                },
                '(' => this.group()?,
                _ => this.text.push(c),
            }
        }
        Ok(this)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at(length);
        self.text.push_str(taken);
        self.rest = rest;
    }

    /// Copies the `?` that makes a repetition lazy.
    fn lazy(&mut self) {
        if self.rest.starts_with('?') {
            self.take(1);
        }
    }

    fn class_start(&mut self) {
        self.in_class = true;
        self.text.push('[');
        if self.rest.starts_with('^') {
            self.take(1);
        }
        if self.rest.starts_with(']') {
            self.text.push('\\');
            self.take(1);
        }
    }

    /// In a class `[`, `&` and `~` are themselves in RE2; the crate gives them a meaning.
    fn class_char(&mut self, c: char) -> Result<(), String> {
        match c {
            ']' => {
                self.in_class = false;
                self.text.push(']');
            }
            '[' if self.rest.starts_with(':') => {
                let end = self.rest.find(":]").ok_or("a class such as `[:alpha:]` is not closed")?;
                let name = self.rest[1..end].trim_start_matches('^');
                const NAMES: &str =
                    " alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit ";
                if name.is_empty() || !NAMES.contains(&format!(" {name} ")) {
                    return Err(format!("unknown class `[:{name}:]`"));
                }
                self.text.push('[');
                self.take(end + 2);
            }
            '[' | '&' | '~' => {
                self.text.push('\\');
                self.text.push(c);
            }
            _ => self.text.push(c),
        }
        Ok(())
    }

    /// After `(`: only RE2's flags are known.
    fn group(&mut self) -> Result<(), String> {
        self.text.push('(');
        let Some(flags) = self.rest.strip_prefix('?') else { return Ok(()) };
        let end = flags.find([':', ')', '<', '=', '!']).unwrap_or(flags.len());
        let unknown = match flags[end..].chars().next() {
            Some('=' | '!') => return Err("look-around is not supported".to_owned()),
            Some('<') if flags[end + 1..].starts_with(['=', '!']) => {
                return Err("look-around is not supported".to_owned());
            }
            Some('<') => !matches!(&flags[..end], "" | "P"),
            _ => flags[..end].contains(|c: char| !matches!(c, 'i' | 'm' | 's' | 'U' | '-')),
        };
        if unknown {
            return Err(format!("unknown flag in `(?{}`", &flags[..end]));
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let Some(c) = self.next() else { return Err("it ends with a `\\`".to_owned()) };
        match c {
            'Q' => {
                let (literal, rest) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
                self.text.push_str(&regex::escape(literal));
                self.rest = rest;
            }
            'E' => {}
            'd' => self.ascii_class("0-9", false),
            'D' => self.ascii_class("0-9", true),
            'w' => self.ascii_class("0-9A-Za-z_", false),
            'W' => self.ascii_class("0-9A-Za-z_", true),
            's' => self.ascii_class(r"\t\n\f\r ", false),
            'S' => self.ascii_class(r"\t\n\f\r ", true),
            'b' if !self.in_class => self.text.push_str(r"(?-u:\b)"),
            'B' if !self.in_class => self.text.push_str(r"(?-u:\B)"),
            'C' if !self.in_class => self.text.push_str("(?s-u:.)"),
            'p' | 'P' => {
                self.ascii = false;
                self.text.push('\\');
                self.text.push(c);
            }
            'x' => {
                let code = self.hexadecimal().ok_or(r"`\x` needs two digits, or digits in braces")?;
                self.code(code)?;
            }
            '0'..='7' => self.octal(c)?,
            'a' | 'f' | 't' | 'n' | 'r' | 'v' => {
                self.text.push('\\');
                self.text.push(c);
            }
            'A' | 'z' if !self.in_class => {
                self.text.push('\\');
                self.text.push(c);
            }
            c if c.is_ascii_punctuation() => self.text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            c => return Err(format!("unknown escape `\\{c}`")),
        }
        Ok(())
    }

    /// A class of ASCII whatever the mode, inside and outside brackets.
    fn ascii_class(&mut self, members: &str, negated: bool) {
        let result = match (self.in_class, negated) {
            (true, false) => write!(self.text, "{members}"),
            (_, true) => write!(self.text, "[^{members}]"),
            (false, false) => write!(self.text, "[{members}]"),
        };
        result.expect("writing to a string cannot fail");
    }

    fn code(&mut self, code: u32) -> Result<(), String> {
        self.ascii &= code < 0x80;
        char::from_u32(code).ok_or_else(|| format!("U+{code:X} is no character"))?;
        write!(self.text, r"\x{{{code:X}}}").expect("writing to a string cannot fail");
        Ok(())
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = match self.rest.strip_prefix('{') {
            Some(rest) => &rest[..rest.find('}')?],
            None => self.rest.get(..2)?,
        };
        let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let braces = if self.rest.starts_with('{') { 2 } else { 0 };
        let code = valid.then(|| u32::from_str_radix(digits, 16).ok()).flatten()?;
        self.rest = &self.rest[digits.len() + braces..];
        Some(code)
    }

    /// `\0`, `\12`: octal; `\1` alone would be a backreference.
    fn octal(&mut self, first: char) -> Result<(), String> {
        let more = self.rest.bytes().take(2).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
        if first != '0' && more == 0 {
            return Err(format!("backreferences such as `\\{first}` are not supported"));
        }
        let digits = format!("{first}{}", &self.rest[..more]);
        self.rest = &self.rest[more..];
        self.code(u32::from_str_radix(&digits, 8).map_err(|error| error.to_string())?)
    }
}

/// After `{`: the length of `n}`, `n,}` or `n,m}` and the largest number in it. Anything else is a literal brace.
fn repeat(rest: &str) -> Option<(usize, u32)> {
    let end = rest.find('}')?;
    let (least, most) = rest[..end].split_once(',').unwrap_or((&rest[..end], ""));
    let number = |digits: &str| {
        let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        valid.then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let least = number(least)?;
    let most = if most.is_empty() { least } else { number(most)? };
    Some((end + 1, least.max(most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        whole(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).is_match(text.as_bytes())
    }

    #[test]
    fn the_whole_string_must_match() {
        assert!(matches("a|b", "a") && matches("a|b", "b"));
        assert!(!matches("a|b", "ab") && !matches("a", "a\n") && !matches("^a$", "ab"));
        assert!(matches("(?i)ABC", "abc") && matches("", ""));
    }

    #[test]
    fn classes_are_ascii() {
        assert!(matches(r"\d+", "123") && !matches(r"\d", "٣"));
        assert!(matches(r"[\w-]+", "a-b_c") && !matches(r"\w", "é"));
        assert!(matches(r"\s", "\t") && !matches(r"\s", "\u{b}"));
        assert!(matches(r"é\d", "é1") && !matches(r"é\d", "é٣"));
        assert!(matches(r"[^\D]", "7") && !matches(r"[^\D]", "x"));
    }

    #[test]
    fn what_only_re2_has() {
        assert!(matches(r"\Qa.b\E+", "a.bb") && !matches(r"\Qa.b\E", "axb"));
        assert!(matches(r"a\Cb", "axb"));
        assert!(matches(r"\101\x42\x{43}", "ABC"));
        assert!(matches("a{,2}", "a{,2}") && matches("a{x", "a{x"));
        assert!(matches("[[&&~]+", "[&~") && matches("[]a]+", "]a") && matches("[^]]", "a"));
        assert!(matches(r"\<a\>", "<a>"));
        assert!(matches(r"\pL+", "é") && matches("[[:alpha:]]+", "ab"));
    }

    #[test]
    fn what_re2_has_not_is_refused() {
        for pattern in [
            "*",
            "a**",
            "a+*",
            "(?=a)",
            "(?<!a)b",
            r"(a)\1",
            "(",
            "[a",
            "a{1001}",
            "a{2}{3}",
            "(?x)a",
            r"\u0041",
            r"\",
            r"\y",
            "[[:foo:]]",
            r"\xZZ",
            "(?P=a)",
        ] {
            assert!(whole(pattern).is_err(), "{pattern}");
        }
        assert!(whole(&"a".repeat(1025)).is_err());
        assert!(whole(&"a".repeat(1024)).is_ok());
        assert!(whole(r"(?:\pL{1000}){1000}").is_err());
    }

    #[test]
    fn a_search_is_not_anchored() {
        let found = search(r"b(\d)").unwrap();
        assert_eq!(found.replace_all(b"ab1b2", &b"<$1>"[..]).as_ref(), b"a<1><2>");
        assert!(!found.is_match("b٣".as_bytes()) && search("(").is_err());
    }
}
