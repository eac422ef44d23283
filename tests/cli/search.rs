//! `mydocker search`.

use crate::fake_registry::{Auth, FakeRegistry, Fault};
use crate::support::env::TestEnv;

const FOUND: &str = r#"{"num_pages":1,"num_results":3,"page":1,"page_size":25,"query":"x","results":[
    {"name":"org/few","description":"a\u001b[31mb\nc","star_count":3,"is_official":false,"is_automated":true},
    {"name":"many","description":"The quick brown fox jumps over the lazy dog, again","star_count":30,"is_official":true},
    {"name":"none"}]}"#;

fn with_results() -> FakeRegistry {
    let fake = FakeRegistry::start();
    fake.put("/v1/search", "application/json", FOUND.as_bytes().to_vec());
    fake
}

#[test]
fn what_is_found_is_shown_as_docker_shows_it() {
    let (env, fake) = (TestEnv::new(), with_results());
    let term = format!("{}/my term", fake.host());
    let search = |args: &[&str]| env.mydocker(["search", &term]).args(args).run().success().stdout;
    let expected = "\
NAME      DESCRIPTION                                     STARS   OFFICIAL
many      The quick brown fox jumps over the lazy dog,…   30      [OK]
org/few   a [31mb c                                       3
none                                                      0
";
    assert_eq!(search(&[]), expected);
    assert!(fake.log().last().unwrap().path.ends_with("?q=my+term&n=25"), "{:?}", fake.log());
    assert!(search(&["--no-trunc"]).contains("the lazy dog, again   30"));
    assert_eq!(search(&["--limit", "1"]).lines().count(), 2);
    assert!(fake.log().last().unwrap().path.ends_with("&n=1"), "{:?}", fake.log());
    let names = |args: &[&str]| {
        let shown = search(args);
        shown
            .lines()
            .skip(1)
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&["--filter", "stars=3"]), ["many", "org/few"]);
    assert_eq!(names(&["-f", "is-official=false", "-f", "stars=1"]), ["org/few"]);
    assert_eq!(names(&["-f", "is-automated=true"]), ["org/few"]);
    let json = search(&["--format", "json", "-f", "is-official=true"]);
    let expected = r#"{"Description":"The quick brown fox jumps over the lazy dog, again","IsAutomated":"false","IsOfficial":"true","Name":"many","StarCount":"30"}"#;
    assert_eq!(json, format!("{expected}\n"));
    assert!(!env.root().exists());
}

#[test]
fn searches_that_fail() {
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let term = format!("{}/x", fake.host());
    let search = || env.mydocker(["search", &term]);
    search().run().fails(125, &["search", &fake.host(), "has no search", "hint:"]);
    fake.put("/v1/search", "application/json", b"[]".to_vec());
    search().run().fails(125, &["search result", "cannot be understood"]);
    fake.fault("/v1/search", 1, Fault::error(400, "BAD"));
    search().run().fails(125, &["400", "in words"]);
    fake.fault("/v1/search", 1, Fault::Endless);
    search().run().fails(125, &["larger than"]);
    for args in
        [["--limit", "0"], ["--limit", "101"], ["--filter", "stars=x"], ["--filter", "nosuch=1"]]
    {
        search().args(args).run().exits(125);
    }
    env.mydocker(["search", ""]).run().fails(125, &["nothing to look for"]);
}

#[test]
fn a_password_goes_where_it_is_asked_for() {
    let (env, fake, other) = (TestEnv::new(), with_results(), with_results());
    fake.set_auth(Auth::Basic("alice", "hunter2"));
    let search =
        |fake: &FakeRegistry| env.mydocker(["--debug", "search", &format!("{}/x", fake.host())]);
    search(&fake).run().fails(125, &["login"]);
    let login = env.mydocker(["login", "-u", "alice", "--password-stdin", &fake.host()]);
    login.input("hunter2").ok();
    let output = search(&fake).run().success();
    assert!(!output.stderr.contains("hunter2"), "{}", output.report());
    search(&other).ok();
    other.set_auth(Auth::Basic("alice", "hunter2"));
    search(&other).run().fails(125, &["login"]);
    assert!(other.log().iter().all(|request| request.header("authorization").is_none()));
}
