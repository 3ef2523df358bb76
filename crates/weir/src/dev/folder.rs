//! The data folder: where everything of one house is, and the lock that keeps it to one launcher.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::StateFile;

/// What a house makes in its folder. A reset removes these and nothing else: the folder may be anybody's home.
/// The last one, written before all others and removed after them, proves that the others are a house's.
const OWN: [&str; 7] = ["dev.json", "postgres", "nats", "redis", "services", "logs", PROOF];
const PROOF: &str = "children.json";
/// Where a folder's PostgreSQL goes when its user may not enter the folder.
const ELSEWHERE: &str = "/var/lib/weir";
const HASH_LENGTH: usize = 12;

/// A data folder, not necessarily locked.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
}

/// Held while a launcher uses the folder.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Folder {
    /// Makes it when missing.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("creating the data folder {}", path.display()))?;
        let root = path.canonicalize().with_context(|| format!("entering {}", path.display()))?;
        if root.to_str().is_none_or(|text| text.contains(['\n', '"', '\''])) {
            bail!("the data folder's path must be UTF-8 without quotes or line breaks: {}", root.display());
        }
        Ok(Self { root })
    }

    /// One that a launcher used before.
    pub(crate) fn existing(path: &Path) -> Option<Self> {
        path.join("lock").exists().then(|| Self::open(path).ok()).flatten()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A sub-folder, made when missing.
    pub(crate) fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.join(name);
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(path)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.join("logs").join(format!("{name}.log"))
    }

    pub(crate) fn lock_path(&self) -> PathBuf {
        self.join("lock")
    }

    /// The file that says, once a house is ready, how to reach it.
    pub(crate) fn dev_json(&self) -> PathBuf {
        self.join("dev.json")
    }

    /// # Errors
    /// It is there and cannot be removed.
    pub(crate) fn remove_dev_json(&self) -> Result<()> {
        let path = self.dev_json();
        if !self.children_json().exists() {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn children_json(&self) -> PathBuf {
        self.join(PROOF)
    }

    /// Short and the same for the same folder.
    pub(crate) fn hash(&self) -> String {
        let digest = Sha256::digest(self.root.as_os_str().as_encoded_bytes());
        let mut text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        text.truncate(HASH_LENGTH);
        text
    }

    /// The place outside this folder that other users may enter.
    pub(crate) fn elsewhere(&self) -> PathBuf {
        Path::new(ELSEWHERE).join(self.hash())
    }

    /// # Errors
    /// When another launcher holds it: who.
    pub(crate) fn lock(&self) -> Result<Lock> {
        self.try_lock()?.map_err(|pid| {
            anyhow::anyhow!(
                "another `weir dev` (pid {pid}) uses {}; stop it with `weir dev stop`, or give this one a folder of its own with --data",
                self.root.display()
            )
        })
    }

    /// The lock, or the id of the process that holds it.
    pub(crate) fn try_lock(&self) -> Result<Result<Lock, u32>> {
        let path = self.lock_path();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                self.refuse_stranger_s_lock(&mut file)?;
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0))?;
                writeln!(file, "{}", process::id())?;
                Ok(Ok(Lock(file)))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                Ok(Err(text.trim().parse().unwrap_or_default()))
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("locking {}", path.display()))
            }
        }
    }

    /// A lock of ours is empty while nobody holds it, or in a folder that a house made.
    fn refuse_stranger_s_lock(&self, file: &mut File) -> Result<()> {
        let mut first = [0];
        ensure!(
            self.children_json().exists() || file.read(&mut first)? == 0,
            "{} has something in it and there is no {PROOF}, so `weir dev` did not write it; move it away, or give it \
             another folder with --data",
            self.lock_path().display(),
        );
        Ok(())
    }

    /// Makes the folder a house's before anything else is put there, and the folder of its logs, which no other
    /// user may read.
    ///
    /// # Errors
    /// As [`Self::refuse_strangers`].
    pub(crate) fn claim(&self) -> Result<()> {
        self.refuse_strangers()?;
        let proof = self.children_json();
        if !proof.exists() {
            StateFile::load(&proof)?.update(|_| ())?;
        }
        let logs = self.make("logs")?;
        fs::set_permissions(&logs, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("closing {}", logs.display()))
    }

    /// # Errors
    /// When something here has a name that a house would use, and no house made it.
    pub(crate) fn refuse_strangers(&self) -> Result<()> {
        let known = |name: &str| fs::symlink_metadata(self.join(name)).is_ok();
        let found: Vec<&str> = OWN.into_iter().filter(|name| known(name)).collect();
        ensure!(
            found.is_empty() || found.contains(&PROOF),
            "{} has {} but no {PROOF}, so `weir dev` did not make them; move them away, or give it another folder with --data",
            self.root.display(),
            found.join(", "),
        );
        Ok(())
    }

    /// Removes what a house made here and elsewhere; nothing here when there was none. The children must be stopped.
    pub(crate) fn wipe(&self) -> Result<()> {
        let mut paths = vec![self.elsewhere()];
        if self.children_json().exists() {
            paths.extend(OWN.iter().map(|name| self.join(name)));
        }
        for path in paths {
            let removed = match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => Err(error),
            };
            removed.with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would do; a pid that no longer holds it should not stay in it.
        let _ = self.0.set_len(0);
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_launcher_a_folder_and_the_second_says_who() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let lock = folder.lock().unwrap();
        let refused = folder.lock().unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", process::id())), "{refused}");
        drop(lock);
        folder.lock().unwrap();
    }

    #[test]
    fn a_reset_leaves_what_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        for name in ["venv", "nats", "logs"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        for name in ["thesis.txt", "dev.json", "nats/nats.conf", "children.json"] {
            fs::write(folder.join(name), "").unwrap();
        }
        folder.wipe().unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["thesis.txt", "venv"]);
    }

    #[test]
    fn what_only_has_our_names_is_neither_used_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        fs::create_dir(folder.join("logs")).unwrap();
        folder.wipe().unwrap();
        assert!(folder.join("logs").exists());
        let refused = folder.claim().unwrap_err().to_string();
        assert!(refused.contains("has logs but no children.json"), "{refused}");
        assert!(!folder.children_json().exists());
        fs::remove_dir(folder.join("logs")).unwrap();
        folder.claim().unwrap();
        folder.claim().unwrap();
        assert_eq!(fs::metadata(folder.join("logs")).unwrap().permissions().mode() & 0o777, 0o700);
        folder.wipe().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_stranger_s_lock_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        fs::write(folder.lock_path(), "1234\n").unwrap();
        let refused = folder.lock().unwrap_err().to_string();
        assert!(refused.contains("lock has something in it"), "{refused}");
        assert_eq!(fs::read_to_string(folder.lock_path()).unwrap(), "1234\n");
        // What a killed launcher of ours leaves is not a stranger's.
        fs::write(folder.children_json(), "{}").unwrap();
        folder.lock().unwrap();
    }

    #[test]
    fn the_proof_goes_last() {
        assert_eq!(OWN.last(), Some(&PROOF));
    }
}
