use std::os::unix::fs::symlink;

use super::*;

/// A folder whose own path holds no link.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = fs::canonicalize(folder.path()).unwrap();
    (folder, path)
}

fn watched(ways: &Ways, root: &Path) -> Vec<String> {
    let names = |names: &Names| names.exact.iter().map(|name| name.display().to_string()).collect::<Vec<_>>().join(",");
    let inside = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
    ways.folders.iter().map(|(path, one)| format!("{}: {}", inside(path), names(one))).collect()
}

#[test]
fn a_plain_file_needs_its_folder_and_itself() {
    let (_keep, root) = folder();
    fs::write(root.join("vs.yaml"), "a").unwrap();
    let ways = Ways::of(&[root.join("vs.yaml")], false);
    assert_eq!(watched(&ways, &root), [": vs.yaml"]);
    assert!(ways.files.contains(&root.join("vs.yaml")));
    assert!(ways.matter(&root.join("vs.yaml")) && ways.matter(&root));
    assert!(!ways.matter(&root.join("vs.yaml~")) && !ways.matter(&root.join(".vs.yaml.swp")));
}

#[test]
fn a_config_map_is_watched_at_each_link() {
    let (_keep, root) = folder();
    fs::create_dir(root.join("..2026_1")).unwrap();
    fs::write(root.join("..2026_1/vs.yaml"), "a").unwrap();
    symlink("..2026_1", root.join("..data")).unwrap();
    symlink("..data/vs.yaml", root.join("vs.yaml")).unwrap();
    for input in [root.join("vs.yaml"), root.clone()] {
        let ways = Ways::of(&[input], false);
        assert_eq!(watched(&ways, &root), [": ..data,vs.yaml", "..2026_1: vs.yaml"]);
        assert!(ways.files.contains(&root.join("..2026_1/vs.yaml")));
        assert!(ways.matter(&root.join("..data")));
        assert!(!ways.matter(&root.join("..data_tmp")));
    }
}

#[test]
fn a_link_to_elsewhere_needs_the_folder_there_too() {
    let (_keep, root) = folder();
    for name in ["conf", "repository", "releases", "releases/1", "releases/2"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    fs::write(root.join("repository/vs.yaml"), "a").unwrap();
    symlink("../repository/vs.yaml", root.join("conf/vs.yaml")).unwrap();
    let ways = Ways::of(&[root.join("conf/vs.yaml")], false);
    assert_eq!(watched(&ways, &root), ["conf: vs.yaml", "repository: vs.yaml"]);

    fs::write(root.join("releases/2/vs.yaml"), "a").unwrap();
    symlink(root.join("releases/1"), root.join("current")).unwrap();
    let missing = Ways::of(&[root.join("current/vs.yaml")], false);
    assert_eq!(watched(&missing, &root), [": current", "releases/1: vs.yaml"]);
    assert!(missing.files.is_empty());
    fs::remove_file(root.join("current")).unwrap();
    symlink(root.join("releases/2"), root.join("current")).unwrap();
    let swapped = Ways::of(&[root.join("current/vs.yaml")], false);
    assert_eq!(watched(&swapped, &root), [": current", "releases/2: vs.yaml"]);
    assert_ne!(missing.marks, swapped.marks);
}

#[test]
fn of_a_missing_folder_the_nearest_one_above_is_watched() {
    let (_keep, root) = folder();
    let ways = Ways::of(&[root.join("conf/deep/vs.yaml")], false);
    assert_eq!(watched(&ways, &root), [": conf"]);
    assert!(ways.matter(&root.join("conf")) && !ways.matter(&root.join("other")));
    fs::create_dir(root.join("conf")).unwrap();
    assert_eq!(watched(&Ways::of(&[root.join("conf/deep/vs.yaml")], false), &root), ["conf: deep"]);
}

#[test]
fn in_a_folder_files_that_come_later_matter() {
    let (_keep, root) = folder();
    fs::create_dir(root.join("deep")).unwrap();
    fs::write(root.join("deep/b.yml"), "b").unwrap();
    let flat = Ways::of(std::slice::from_ref(&root), false);
    assert!(flat.matter(&root.join("new.yaml")) && flat.matter(&root.join("new.yml")));
    assert!(!flat.matter(&root.join(".new.yaml")) && !flat.matter(&root.join("deep")));
    let deep = Ways::of(std::slice::from_ref(&root), true);
    assert!(deep.matter(&root.join("deep")) && deep.matter(&root.join("deep/c.yaml")));
    assert_eq!(deep.files.len(), 1);
}

#[test]
fn links_in_a_circle_end() {
    let (_keep, root) = folder();
    symlink("b.yaml", root.join("a.yaml")).unwrap();
    symlink("a.yaml", root.join("b.yaml")).unwrap();
    symlink(&root, root.join("up")).unwrap();
    let ways = Ways::of(&[root.join("a.yaml")], false);
    assert_eq!(watched(&ways, &root), [": a.yaml,b.yaml"]);
    assert!(Ways::of(std::slice::from_ref(&root), true).files.is_empty());
}

#[test]
fn marks_tell_a_changed_file_and_nothing_else() {
    let (_keep, root) = folder();
    fs::write(root.join("vs.yaml"), "a").unwrap();
    let paths = [root.clone()];
    let before = Ways::of(&paths, false);
    fs::write(root.join("notes.txt"), "a").unwrap();
    assert_eq!(before, Ways::of(&paths, false));
    fs::write(root.join("vs.yaml"), "ab").unwrap();
    assert_ne!(before.marks, Ways::of(&paths, false).marks);
    let changed = Ways::of(&paths, false);
    fs::write(root.join("other.yaml"), "a").unwrap();
    assert_ne!(changed.marks, Ways::of(&paths, false).marks);
}

#[test]
fn a_way_ends_at_the_file_or_where_a_step_is_missing() {
    let (_keep, root) = folder();
    symlink("conf", root.join("current")).unwrap();
    let path = root.join("current/vs.yaml");
    assert_eq!(end(&path), Some(root.join("conf")));
    fs::create_dir(root.join("conf")).unwrap();
    assert_eq!(end(&path), Some(root.join("conf/vs.yaml")));
    fs::write(root.join("conf/vs.yaml"), "").unwrap();
    assert_eq!(end(&path), Some(root.join("conf/vs.yaml")));
    assert_eq!(end(&root), Some(root.clone()));
    for path in [root.join("conf/vs.yaml"), root.clone(), path] {
        let ways = Ways::of(std::slice::from_ref(&path), false);
        assert!(ways.matter(&end(&path).unwrap()), "{path:?}");
    }
}

#[test]
fn a_named_file_is_watched_and_not_its_neighbours() {
    let (_folder, root) = folder();
    fs::create_dir(root.join("keys")).unwrap();
    fs::write(root.join("keys/tls.crt"), "").unwrap();
    let ways = Ways::of(&[root.join("conf")], false).and_to(&[root.join("keys/tls.crt"), root.join("keys/tls.key")]);
    assert!(ways.matter(&root.join("keys/tls.crt")) && ways.matter(&root.join("keys/tls.key")));
    assert!(!ways.matter(&root.join("keys/other.yaml")));
}
