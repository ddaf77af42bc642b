//! The oracles, asked about every file of `tests/corpus` and about random changes of these: the same each time, and some that are new
//! each time. What goes wrong is printed; it becomes a file of the corpus.
//!
//! `SERIN_FUZZ_INPUTS=N` asks about N inputs instead of a few hundred or thousand each.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::thread;

use super::oracles::stand::Stand;
use super::oracles::{config_bytes, header_edits, http2_frames, request_framing, response_framing, route_matcher};

/// Random numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}

/// Says which input went wrong.
struct Asked<'i> {
    target: &'i str,
    what: String,
    input: &'i [u8],
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { target, what, input } = self;
            eprintln!("--- {what}, to be kept in tests/corpus/{target}:\n{}\n---", input.escape_ascii());
        }
    }
}

/// The files of a target with their names, sorted.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut files: Vec<_> = entries.map(|path| (name(&path), fs::read(&path).unwrap())).collect();
    files.sort();
    assert!(files.len() >= 10, "{target}");
    files
}

/// Asks about the corpus, then about so many changes of it. `check` says whether the input came to something; of the corpus some
/// must, because otherwise nothing is looked at.
fn ask(target: &str, words: &[&str], inputs: usize, check: impl Fn(&[u8]) -> bool) {
    let files = corpus(target);
    let mut came_through = 0;
    for (name, input) in &files {
        let asked = Asked { target, what: format!("the file {name}"), input };
        came_through += usize::from(check(input));
        drop(asked);
    }
    assert!(came_through * 4 >= files.len(), "only {came_through} of {} came to anything", files.len());
    let wanted = std::env::var("SERIN_FUZZ_INPUTS").ok().and_then(|number| number.parse().ok());
    let inputs = wanted.unwrap_or(inputs);
    // Always the same ones, then a quarter that are new.
    let new = RandomState::new().build_hasher().finish();
    for (seed, inputs) in [(0, inputs - inputs / 4), (new, inputs / 4)] {
        let mut random = Random(seed);
        for number in 0..inputs {
            let input = changed(&files, words, &mut random);
            let asked = Asked { target, what: format!("input {number} of seed {seed}"), input: &input };
            check(&input);
            drop(asked);
        }
    }
}

/// A file of the corpus with a few changes.
fn changed(files: &[(String, Vec<u8>)], words: &[&str], random: &mut Random) -> Vec<u8> {
    let mut input = files[random.below(files.len())].1.clone();
    for _ in 0..1 + random.below(5) {
        let at = random.below(input.len() + 1);
        let end = at + random.below((input.len() - at).min(24) + 1);
        match random.below(9) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 => drop(input.splice(at..at, input[at..end].to_vec())),
            3 if at < input.len() => input[at] = random.next() as u8,
            4 if at < input.len() => input[at] ^= 1 << random.below(8),
            5 => {
                let other = &files[random.below(files.len())].1;
                let from = random.below(other.len() + 1);
                let to = from + random.below(other.len() - from + 1);
                input.splice(at..end, other[from..to].iter().copied());
            }
            6 => swap_lines(&mut input, random),
            _ => {
                let word = words[random.below(words.len())];
                input.splice(at..if random.below(2) == 0 { at } else { end }, word.bytes());
            }
        }
    }
    input
}

/// Puts a line of the input in front of another.
fn swap_lines(input: &mut Vec<u8>, random: &mut Random) {
    let mut lines: Vec<Vec<u8>> = input.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.len() > 1 {
        let line = lines.remove(random.below(lines.len()));
        lines.insert(random.below(lines.len() + 1), line);
        *input = lines.concat();
    }
}

#[test]
fn any_configuration_gets_an_answer_and_what_is_accepted_can_be_explained() {
    let words = [
        "\n",
        ": ",
        "- ",
        "---\n",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "!!str ",
        "|\n",
        "# ",
        "  ",
        "\t",
        "\"",
        "'",
        "match:",
        "uri:",
        "prefix: /",
        "regex: .*",
        "exact: ''",
        "weight: 100",
        "hosts: ['*']",
        "null",
        "~",
        "0x1F",
        "1e3",
        "<<: *a",
        "?",
        "\u{feff}",
        "\u{85}",
        "한",
        "gateways: [mesh]",
        "delegate:",
        "port: 80",
        "timeout: 1s",
        "ignoreUriCase: true",
    ];
    ask("config_bytes", &words, 2_000, |input| {
        config_bytes::check(input);
        true
    });
}

#[test]
fn the_route_table_agrees_with_the_naive_matcher() {
    let words = [
        "rule\n",
        "match\n",
        "fold\n",
        "anyhost\n",
        "service 1 a.x *.a.x\n",
        "service x *\n",
        "service 0 *-a.x a.x\n",
        "uri exact /a\n",
        "uri prefix /a\n",
        "uri prefix \n",
        "uri prefix /\n",
        "uri regex .*\n",
        "uri regex *\n",
        "uri regex /a/[a-c]|/b\n",
        "uri present\n",
        "header x-a exact 1\n",
        "header x-a present\n",
        "header cookie exact a; b\n",
        "header host exact a.x\n",
        "header :status present\n",
        "header @request.auth.claims exact 1\n",
        "without x-a exact 1\n",
        "without X-A present\n",
        "without x-a regex .*\n",
        "query k exact 1\n",
        "query k regex *\n",
        "query k\n",
        "method regex GET|PUT\n",
        "scheme exact https\n",
        "authority prefix a\n",
        "port 81\n",
        "port 80\n",
        "request GET http a.x /a\n",
        "request GET https A.X:80 /A?k=1&k=2#f\n",
        "request OPTIONS http a.x *\n",
        "request GET http [::1]:80 /a/b\n",
        "request GET http z.a.x. //a/%2Fa?k\n",
        "request GET http  /\n",
        "with x-a 1\n",
        "with x-a \n",
        "with cookie a\n",
        "with cookie b\n",
        "?",
        "#",
        "%2F",
        "/",
        "//",
        "..",
        "A",
        "*",
        "&",
        "=",
        ",",
    ];
    ask("route_matcher", &words, 8_000, |input| route_matcher::check(input) > 0);
}

/// Services and requests made of the same few words, so that near misses are common.
fn services_and_requests(random: &mut Random) -> String {
    const PATTERNS: &str = "a.x A.X *.x * x b.a.x *.a.x *-a.x *a.x *.X ::1 c-a.x *.c-a.x";
    const HOSTS: &str = "a.x a.X x .x z.x b.a.x z.a.x z.b.a.x c-a.x -a.x z.c-a.x za.x [::1] y";
    const PORTS: [&str; 7] = ["", "", ".", ":80", ":81", ".:80", ":"];
    const PATHS: &str = "/ /a /A /a/ /ab /a/b /b * /a.b /a/b/c //a /%61";
    const QUERIES: [&str; 12] =
        ["", "", "?", "?k", "?k=", "?k=1", "?k=1&k=2", "?k=2&k=1", "?K=1", "?j=1&k=1#f", "#?k=1", "?j&k=a"];
    const WORDS: [&str; 10] = ["", "1", "2", "1,2", "a", "A", "ab", "GET", "http", "a.x"];
    const REGEXES: &str = "a /a.* .* 1|2 1.* * ( GET|PUT a? /a/[a-c]";
    const NAMES: &str = "x-a X-B :method :path host";
    let mut text = String::new();
    let mut line = |words: &[&str]| text.push_str(&(words.join(" ") + "\n"));
    if random.below(2) == 0 {
        line(&["anyhost"]);
    }
    for _ in 0..1 + random.below(4) {
        let age = ["x", "0", "1", "2"][random.below(4)];
        let hosts: Vec<_> = (0..1 + random.below(3)).map(|_| word(PATTERNS, random)).collect();
        line(&["service", age, &hosts.join(" ")]);
        for _ in 0..1 + random.below(3) {
            line(&["rule"]);
            for _ in 0..random.below(3) {
                line(&["match"]);
                for _ in 0..random.below(4) {
                    let [path, value] = [word(PATHS, random), WORDS[random.below(WORDS.len())]];
                    let kind = ["exact", "exact", "prefix", "prefix", "regex", "present"][random.below(6)];
                    let value = if kind == "regex" { word(REGEXES, random) } else { value };
                    let path = if kind == "regex" { value } else { path };
                    let name = word(NAMES, random);
                    match random.below(12) {
                        0..5 => line(&["uri", kind, path]),
                        5 => line(&["fold"]),
                        6 => line(&["header", name, kind, value]),
                        7 => line(&["without", name, kind, value]),
                        8 => line(&["query", word("k j", random), kind, value]),
                        9 => line(&["port", word("80 81", random)]),
                        10 => line(&["authority", kind, word(HOSTS, random)]),
                        _ => line(&[word("method scheme", random), kind, value]),
                    }
                }
            }
        }
    }
    for _ in 0..8 {
        let authority = word(HOSTS, random).to_owned() + PORTS[random.below(PORTS.len())];
        let target = word(PATHS, random).to_owned() + QUERIES[random.below(QUERIES.len())];
        line(&["request", word("GET get A", random), "http", &authority, &target]);
        for _ in 0..random.below(4) {
            line(&["with", word("x-a x-b", random), WORDS[random.below(WORDS.len())]]);
        }
    }
    text
}

fn word<'w>(words: &'w str, random: &mut Random) -> &'w str {
    let words: Vec<_> = words.split(' ').collect();
    words[random.below(words.len())]
}

#[test]
fn made_up_services_agree_with_the_naive_matcher() {
    let mut routed = 0;
    for seed in 0..4_000 {
        let text = services_and_requests(&mut Random(seed));
        let asked = Asked { target: "route_matcher", what: format!("seed {seed}"), input: text.as_bytes() };
        routed += route_matcher::check(text.as_bytes());
        drop(asked);
    }
    assert!(routed > 4_000, "{routed}");
}

#[test]
fn header_operations_do_what_a_list_would() {
    let words = [
        "several\n",
        "rule set x-a 1\n",
        "rule add x-a 2\n",
        "rule remove x-a\n",
        "destination set X-A 3\n",
        "destination add x-a 4\n",
        "destination remove X-a\n",
        "field x-a 0\n",
        "field x-a 00\n",
        "field host a\n",
        "rule set host b\n",
        "rule add :authority c\n",
        "rule remove host\n",
        "rule set content-length 5\n",
        "rule add transfer-encoding chunked\n",
        "rule remove content-length\n",
        "field content-length 3\n",
        "rule set x-a a\\r\\nhost: b\n",
        "rule set x-a \\0\n",
        "rule set x-a %REQ(host)%\n",
        "rule add x-a 50%%\n",
        "rule set x-a \n",
        "rule set :path /\n",
        "%",
        "%%",
        "\\r",
        "\\n",
        "x-b",
        " ",
        "é",
    ];
    ask("header_edits", &words, 8_000, header_edits::check);
}

#[test]
fn the_upstream_gets_the_requests_that_a_strict_reader_finds() {
    let words = [
        "\r\n",
        "\r",
        "\n",
        "\r\n\r\n",
        " ",
        "\t",
        "\0",
        ":",
        ",",
        ";",
        "0\r\n\r\n",
        "1\r\na\r\n",
        "5\r\n",
        "content-length: 5\r\n",
        "content-length: 0\r\n",
        "content-length: 5, 5\r\n",
        "content-length: +5\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding:\u{b}chunked\r\n",
        "transfer-encoding: identity\r\n",
        "host: a.test\r\n",
        "host: b\r\n",
        "connection: close\r\n",
        "connection: x-a, content-length\r\n",
        "connection: keep-alive\r\n",
        "upgrade: h2c\r\n",
        "expect: 100-continue\r\n",
        "HTTP/1.0",
        "HTTP/1.1",
        "HTTP/2.0",
        "GET ",
        "POST ",
        "HEAD ",
        "CONNECT ",
        "OPTIONS * ",
        "http://a.test/x",
        "/%0d%0a",
        "#f",
        "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n",
        "x-a: 1\r\n",
        " x: folded\r\n",
        "fffffffffffffffff\r\n",
        "18446744073709551616",
    ];
    let stand = Stand::start();
    ask("request_framing", &words, 400, |input| request_framing::check(&stand, input) > 0);
}

#[test]
fn what_a_client_gets_as_whole_is_whole() {
    let words = [
        "\r\n",
        "\r",
        "\n",
        "\r\n\r\n",
        " ",
        "\0",
        ":",
        "0\r\n\r\n",
        "1\r\na\r\n",
        "5\r\n",
        "content-length: 5\r\n",
        "content-length: 0\r\n",
        "content-length: 5, 6\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: gzip\r\n",
        "connection: close\r\n",
        "connection: keep-alive\r\n",
        "HTTP/1.0 ",
        "HTTP/1.1 ",
        "100 Continue\r\n\r\n",
        "103 Early Hints\r\n\r\n",
        "101 Switching\r\n",
        "204 ",
        "304 ",
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison",
        "fffffffffffffffff\r\n",
        ";x=\"\r\n",
        "trailer: x\r\n",
        "a: b\r\n",
    ];
    let stand = Stand::start();
    ask("response_framing", &words, 200, |input| response_framing::check(&stand, input) > 0);
}

#[test]
fn frames_of_a_client_leave_nothing_behind() {
    let words = [
        "\0\0\0\u{4}\u{1}\0\0\0\0",
        "\0\0\0\0\u{1}\0\0\0\u{1}",
        "\0\0\0\u{1}\u{5}\0\0\0\u{5}",
        "\0\0\u{4}\u{3}\0\0\0\0\u{1}\0\0\0\u{8}",
        "\0\0\u{4}\u{8}\0\0\0\0\0\0\0\0\u{1}",
        "\0\0\u{4}\u{8}\0\0\0\0\u{1}\u{7f}\u{7f}\u{7f}\u{7f}",
        "\0\0\u{8}\u{7}\0\0\0\0\0\0\0\0\0\0\0\0\0",
        "\0\0\u{6}\u{4}\0\0\0\0\0\0\u{1}\0\0\0\0",
        "\0\0\u{6}\u{4}\0\0\0\0\0\0\u{4}\0\0\0\0",
        "\0\0\u{3}\u{9}\u{4}\0\0\0\u{1}abc",
        "\0\0\u{5}\u{2}\0\0\0\0\u{1}\0\0\0\u{1}\u{1}",
        "\0\0\u{8}\u{6}\0\0\0\0\0pingpong",
        "\u{1}",
        "\u{4}",
        "\u{5}",
        "\0",
    ];
    let stand = Stand::start();
    ask("http2_frames", &words, 300, |input| http2_frames::check(&stand, input) > 0);
}
