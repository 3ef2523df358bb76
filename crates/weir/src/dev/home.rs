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
        let remembered = state.get().postgres_home.filter(|home| home.join("data").exists());
        let account = Account::for_postgres(&remembered.as_deref().unwrap_or(&inside).join("data"))?;
        let Some(account) = account else {
            let root = remembered.unwrap_or(inside);
            private_folder(&root, None)?;
            return Ok(Self { bin, root, account: None });
        };
        let bin = runnable(folder, bin, &account).await?;
        let candidates =
            remembered.map_or_else(|| vec![inside, folder.elsewhere().join("postgres")], |home| vec![home]);
        for root in &candidates {
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
    let copy = || -> io::Result<()> {
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
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

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
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
        }
    }
    Ok(())
}
