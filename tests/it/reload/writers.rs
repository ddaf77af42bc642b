//! How people and programs save a file. Each leaves `text` at `path`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// The name of a way to save, and the way.
pub(super) type Writer = (&'static str, fn(&Path, &str));

/// Every way to save one file.
pub(super) const ALL: &[Writer] = &[
    ("in place", in_place),
    ("in pieces", in_pieces),
    ("cp", cp),
    ("rename", rename),
    ("vim", vim),
    ("sed -i", sed),
    ("git checkout", git),
    ("hard link", hard_link),
];

/// `> file`: emptied, then written.
pub(super) fn in_place(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

/// In place, with many writes.
pub(super) fn in_pieces(path: &Path, text: &str) {
    let mut file = fs::File::create(path).unwrap();
    for piece in text.as_bytes().chunks(40) {
        file.write_all(piece).unwrap();
    }
}

/// `cp new file`.
pub(super) fn cp(path: &Path, text: &str) {
    let from = path.with_extension("from");
    fs::write(&from, text).unwrap();
    run(Command::new("cp").arg(&from).arg(path));
    fs::remove_file(from).unwrap();
}

/// A new file beside it, renamed over it: what most editors do.
pub(super) fn rename(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, path).unwrap();
}

/// Vim with `backupcopy=no`: a test file, the old file moved away, a new one written, the backup deleted.
pub(super) fn vim(path: &Path, text: &str) {
    let folder = path.parent().unwrap();
    fs::write(folder.join("4913"), "").unwrap();
    fs::remove_file(folder.join("4913")).unwrap();
    let backup = folder.join(format!("{}~", path.file_name().unwrap().display()));
    fs::rename(path, &backup).unwrap();
    fs::write(path, text).unwrap();
    fs::remove_file(backup).unwrap();
}

/// GNU sed: a file of another name in the same folder, renamed over it.
pub(super) fn sed(path: &Path, text: &str) {
    let script = path.with_extension("script");
    fs::write(&script, format!("1{{r {0}.text\n}}\nd\n", path.display())).unwrap();
    let whole = path.with_file_name(format!("{}.text", path.file_name().unwrap().display()));
    fs::write(&whole, text).unwrap();
    run(Command::new("sed").arg("-i").arg("-f").arg(&script).arg(path));
    fs::remove_file(script).unwrap();
    fs::remove_file(whole).unwrap();
}

/// `git checkout`: deleted, then written anew.
pub(super) fn git(path: &Path, text: &str) {
    fs::remove_file(path).unwrap();
    fs::write(path, text).unwrap();
}

/// `ln -f new file`: no event says that it is complete.
pub(super) fn hard_link(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::remove_file(path).unwrap();
    fs::hard_link(&next, path).unwrap();
    fs::remove_file(next).unwrap();
}

/// `touch`: nothing changes but the times.
pub(super) fn touch(path: &Path) {
    run(Command::new("touch").arg(path));
}

/// A Kubernetes volume: a folder of links to `..data`, itself a link to a folder named by time. `round` tells the folders
/// apart. These are the steps of the kubelet's AtomicWriter.
pub(super) fn config_map(volume: &Path, round: usize, files: &[(&str, &str)]) {
    let new = format!("..2026_11_25_{round}");
    fs::create_dir(volume.join(&new)).unwrap();
    for (name, text) in files {
        fs::write(volume.join(&new).join(name), text).unwrap();
    }
    let old = fs::read_link(volume.join("..data")).ok();
    symlink(&new, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for (name, _) in files {
        let link = volume.join(name);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    if let Some(old) = old {
        fs::remove_dir_all(volume.join(old)).unwrap();
    }
}

/// `ln -sfn target link`, as coreutils 9 do it.
pub(super) fn swap_link(link: &Path, target: &Path) {
    let next = link.with_extension("next");
    symlink(target, &next).unwrap();
    fs::rename(next, link).unwrap();
}

/// `ln -sfn target link`, as older ones do it.
pub(super) fn replace_link(link: &Path, target: &Path) {
    fs::remove_file(link).unwrap();
    symlink(target, link).unwrap();
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}
