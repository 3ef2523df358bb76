//! Where PostgreSQL lives. As root it runs as another user, who must be able to enter its programs and its data;
//! what lies behind a closed folder is put under `/var/lib/weir` instead.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{Folder, StateFile, programs};
use crate::child::Account;

/// Longest path of a Unix socket that every system takes, less the socket's own name.
const SOCKET_FOLDER_MAX: usize = 85;

/// PostgreSQL's places.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// The folder with its programs.
    pub(crate) bin: PathBuf,
    /// Owned by the user it runs as; holds `data`.
    pub(crate) root: PathBuf,
    pub(crate) account: Option<Account>,
}

impl Home {
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The home of the last run, or the first place that works.
    pub(crate) async fn choose(folder: &Folder, state: &StateFile, named_bin: Option<&Path>) -> Result<Self> {
        let bin = programs::postgres(folder, named_bin)?;
        let inside = folder.join("postgres");
        let elsewhere = folder.elsewhere().join("postgres");
        // One that is neither is another folder's: this one is a copy, and the original may be running.
        let remembered = state
            .get()
            .postgres_home
            .filter(|home| [&inside, &elsewhere].contains(&home) && home.join("data").exists());
        let account = Account::for_postgres(&remembered.as_deref().unwrap_or(&inside).join("data"))?;
        let Some(account) = account else {
            let root = remembered.unwrap_or(inside);
            private_folder(&root, None)?;
            return Ok(Self { bin, root, account: None });
        };
        let bin = runnable(folder, bin, &account).await?;
        let candidates = remembered.map_or_else(|| vec![inside, elsewhere.clone()], |home| vec![home]);
        for root in &candidates {
            if *root == elsewhere {
                open_elsewhere(folder)?;
            }
            private_folder(root, Some(&account))?;
            if account.can_write(root).await {
                return Ok(Self { bin, root: root.clone(), account: Some(account) });
            }
        }
        bail!("PostgreSQL runs as {}, who cannot enter {}", account.name, candidates[0].display());
    }

    /// A folder for the Unix socket, on a path short enough for one.
    pub(crate) fn socket_folder(&self, folder: &Folder) -> Result<PathBuf> {
        let inside = self.root.join("run");
        if inside.as_os_str().len() <= SOCKET_FOLDER_MAX {
            private_folder(&inside, self.account.as_ref())?;
            return Ok(inside);
        }
        let short = Path::new("/tmp").join(format!("weir-{}", folder.hash()));
        match fs::create_dir(&short) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Anybody may have made it: a link or a stranger's folder would give the database away.
                let meta = fs::symlink_metadata(&short)?;
                let owner = self.account.as_ref().map_or_else(|| nix::unistd::geteuid().as_raw(), |a| a.uid);
                if !meta.is_dir() || meta.uid() != owner {
                    bail!("{} is not ours; remove it", short.display());
                }
            }
            Err(error) => return Err(error).with_context(|| format!("creating {}", short.display())),
        }
        private_folder(&short, self.account.as_ref())?;
        Ok(short)
    }
}

/// Makes a folder that only its user may enter.
fn private_folder(path: &Path, account: Option<&Account>) -> Result<()> {
    let make = || -> io::Result<()> {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        account.map_or(Ok(()), |account| account.own(path))
    };
    make().with_context(|| format!("creating {}", path.display()))
}

/// Makes the folders on the way to what lies elsewhere, for every user to enter whatever our umask is.
fn open_elsewhere(folder: &Folder) -> Result<()> {
    let place = folder.elsewhere();
    for path in place.parent().into_iter().chain([place.as_path()]) {
        open_folder(path).with_context(|| format!("creating {}", path.display()))?;
    }
    Ok(())
}

fn open_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// `bin`, or a copy of the wheel it is in that `account` can run.
async fn runnable(folder: &Folder, bin: PathBuf, account: &Account) -> Result<PathBuf> {
    if account.can_run(&bin.join("postgres")).await {
        return Ok(bin);
    }
    let wheel = bin.ancestors().nth(2).filter(|dir| dir.ends_with(programs::WHEEL));
    let Some((wheel, packages)) = wheel.and_then(|wheel| Some((wheel, wheel.parent()?))) else {
        bail!("PostgreSQL runs as {}, who cannot run {}/postgres", account.name, bin.display());
    };
    let target = folder.elsewhere().join("programs");
    let copied = target.join(programs::WHEEL).join("pginstall/bin");
    let source = stamp(&bin)?;
    let note = target.join("source");
    if fs::read_to_string(&note).is_ok_and(|text| text == source) {
        return Ok(copied);
    }
    tracing::info!(user = %account.name, to = %target.display(), "copying PostgreSQL to where its user may run it");
    open_elsewhere(folder)?;
    let copy = || -> io::Result<()> {
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        open_folder(&target)?;
        copy_tree(wheel, &target.join(programs::WHEEL))?;
        // The libraries the wheel brings, where its programs look for them.
        let libraries = format!("{}.libs", programs::WHEEL);
        if packages.join(&libraries).is_dir() {
            copy_tree(&packages.join(&libraries), &target.join(&libraries))?;
        }
        fs::write(&note, source)
    };
    copy().with_context(|| format!("copying {} to {}", wheel.display(), target.display()))?;
    if !account.can_run(&copied.join("postgres")).await {
        bail!("PostgreSQL runs as {}, who cannot even run {}/postgres", account.name, copied.display());
    }
    Ok(copied)
}

/// Changes when another version is installed.
fn stamp(bin: &Path) -> Result<String> {
    let meta = fs::metadata(bin.join("postgres"))?;
    Ok(format!("{} {} {}\n", bin.display(), meta.len(), meta.mtime()))
}

/// Copies a folder so that every user may read it, and run what its owner may run.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    open_folder(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else {
            fs::copy(&source, &target)?;
            let mode = fs::metadata(&target)?.permissions().mode();
            let run = if mode & 0o100 == 0 { 0 } else { 0o111 };
            fs::set_permissions(&target, fs::Permissions::from_mode(mode | 0o444 | run))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_closed_files_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("bin")).unwrap();
        for (name, mode) in [("bin/postgres", 0o700), ("text", 0o600)] {
            fs::write(from.join(name), "").unwrap();
            fs::set_permissions(from.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(from.join("bin"), fs::Permissions::from_mode(0o700)).unwrap();
        copy_tree(&from, &to).unwrap();
        let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(["", "bin", "bin/postgres", "text"].map(mode), [0o755, 0o755, 0o755, 0o644]);
    }

    #[tokio::test]
    async fn a_copied_folder_does_not_use_the_originals_database() {
        let dir = tempfile::tempdir().unwrap();
        let original = dir.path().join("original/postgres");
        fs::create_dir_all(original.join("data")).unwrap();
        let programs = dir.path().join("bin");
        fs::create_dir(&programs).unwrap();
        for name in ["postgres", "initdb"] {
            fs::write(programs.join(name), "#!/bin/sh\n").unwrap();
        }
        open_folder(dir.path()).unwrap();
        for path in [programs.join("postgres"), programs.join("initdb"), programs.clone()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let folder = Folder::open(&dir.path().join("copy")).unwrap();
        open_folder(folder.root()).unwrap();
        let state = StateFile::load(&folder.children_json()).unwrap();
        state.update(|state| state.postgres_home = Some(original.clone())).unwrap();
        let home = Home::choose(&folder, &state, Some(&programs)).await.unwrap();
        assert_eq!(home.root, folder.join("postgres"));
    }
}
