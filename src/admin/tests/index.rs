//! The list of resources, and what is none.

use super::*;

#[test]
fn wrong_paths_and_methods_are_json_errors() {
    let admin = Admin::start();
    let missing = admin.ask("GET /admin", "");
    assert_eq!((missing.status, &missing.json()["error"]), (404, &json!("not_found")));
    for request in ["POST /metrics", "DELETE /config/reload", "GET /config/reload", "PUT /ready"] {
        let answer = admin.ask(request, "");
        assert_eq!((answer.status, &answer.json()["error"]), (405, &json!("method_not_allowed")), "{request}");
        assert!(answer.head.contains("\r\nallow: "), "{}", answer.head);
    }
    assert_eq!(admin.ask("HEAD /metrics", "").status, 200);
    assert_eq!(admin.reloads.load(SeqCst), 0);
}

#[test]
fn the_index_lists_every_resource() {
    let admin = Admin::start();
    let index = admin.ask("GET /", "").body;
    assert_eq!(index.lines().count(), RESOURCES.len() + 2);
    for resource in RESOURCES {
        let line = index.lines().find(|line| line.starts_with(&format!("{:<4} {} ", resource.method, resource.path)));
        assert!(line.is_some_and(|line| line.ends_with(resource.does)), "{}", resource.path);
        let path = resource.path.replace("{name}", "idle");
        let answer = admin.ask(&format!("{} {path}", resource.method), "");
        assert!(!answer.body.contains("no resource at") && answer.status != 405, "{path}: {}", answer.body);
    }
}
