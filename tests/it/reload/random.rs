//! Anything that can happen to a file, in any order: in the end what is on disk is in force if it is valid, and nothing that
//! was not whole ever was.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serin::config::load;

use super::{PATIENCE, Pace, Proxy, wait_until, writers, yaml};

/// Scripts, each from its own seed.
const SCRIPTS: u64 = 30;
const STEPS: usize = 25;

/// `root/current/vs.yaml`, where `current` leads to one of two releases.
struct Disk {
    root: PathBuf,
    random: StdRng,
    /// A file that is being written, and what is still to come.
    open: Option<(fs::File, String)>,
}

impl Disk {
    fn path(&self) -> PathBuf {
        self.root.join("current/vs.yaml")
    }

    fn release(&mut self) -> PathBuf {
        let number = self.random.random_range(1..=2);
        self.root.join(format!("release-{number}"))
    }

    fn text(&mut self) -> String {
        yaml(self.random.random_range(0..=100))
    }

    fn finish(&mut self) {
        if let Some((mut file, rest)) = self.open.take() {
            file.write_all(rest.as_bytes()).unwrap();
        }
    }

    /// One thing that happens. What cannot happen now does not.
    fn step(&mut self) {
        let path = self.path();
        let there = path.parent().is_some_and(Path::is_dir);
        let step = self.random.random_range(0..13);
        if self.open.is_some() && step != 12 {
            self.finish();
        }
        match step {
            0 if there => writers::in_place(&path, &self.text()),
            1 if there => writers::rename(&path, &self.text()),
            2 if path.exists() => {
                let save = writers::ALL[self.random.random_range(0..writers::ALL.len())].1;
                save(&path, &self.text());
            }
            3 => drop(fs::remove_file(&path)),
            4 => drop(fs::remove_dir_all(self.release())),
            5 | 6 => {
                let release = self.release();
                fs::create_dir_all(&release).unwrap();
                writers::in_pieces(&release.join("vs.yaml"), &self.text());
            }
            7 => {
                let release = self.release();
                writers::swap_link(&self.root.join("current"), release.file_name().unwrap().as_ref());
            }
            8 => {
                let release = self.release();
                writers::replace_link(&self.root.join("current"), &release);
            }
            9 if there => fs::write(&path, ["", "broken: [", "kind: Other\n"][self.random.random_range(0..3)]).unwrap(),
            10 if path.exists() => writers::touch(&path),
            11 => drop(fs::rename(self.release(), self.root.join("release-1"))),
            12 if there && self.open.is_none() => {
                let text = self.text();
                let (begin, rest) = text.split_at(text.find("  - name: last").unwrap());
                let mut file = fs::File::create(&path).unwrap();
                file.write_all(begin.as_bytes()).unwrap();
                self.open = Some((file, rest.to_owned()));
            }
            _ => fs::write(self.root.join("noise"), "noise").unwrap(),
        }
    }
}

#[test]
fn whatever_happens_to_the_file_its_last_valid_content_is_in_force() {
    for seed in 0..SCRIPTS {
        let root = tempfile::tempdir().unwrap();
        let mut disk = Disk { root: root.path().to_owned(), random: StdRng::seed_from_u64(seed), open: None };
        fs::create_dir(root.path().join("release-1")).unwrap();
        fs::write(root.path().join("release-1/vs.yaml"), yaml(1)).unwrap();
        std::os::unix::fs::symlink("release-1", root.path().join("current")).unwrap();
        // The poll is part of the promise, but events alone must do for all that they are sent for.
        let pace = if seed % 2 == 0 { Pace::default() } else { Pace { stat: PATIENCE, hash: PATIENCE } };
        let proxy = Proxy::start_with(vec![disk.path()], false, pace);
        for _ in 0..STEPS {
            disk.step();
        }
        disk.finish();
        let wanted = load::read(&[disk.path()], false).hash();
        wait_until(
            || proxy.publisher.status().on_disk.hash == wanted,
            || format!("seed {seed}: wanted {wanted}\n{:#?}", proxy.publisher.status()),
        );
        proxy.check_whole();
        let changes = proxy.count("applied") + 1;
        assert!(changes <= STEPS as u64 + 1, "seed {seed}: {changes} changes");
    }
}
