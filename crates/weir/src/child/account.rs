//! The user a child runs as. PostgreSQL refuses to run as root, so root drops to another user for it.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    process::Stdio,
};

use anyhow::{Context as _, Result};
use nix::unistd::{Uid, User};
use tokio::process::Command;

/// Users that exist for this, the better one first.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// A user to drop to; only root can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// For PostgreSQL: `None` when we are not root. Data that exists already stays its owner's.
    pub(crate) fn for_postgres(data: &Path) -> Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        if let Ok(meta) = fs::metadata(data)
            && meta.uid() != 0
        {
            let name = User::from_uid(Uid::from_raw(meta.uid())).ok().flatten().map(|user| user.name);
            let name = name.unwrap_or_else(|| meta.uid().to_string());
            return Ok(Some(Self { name, uid: meta.uid(), gid: meta.gid() }));
        }
        let known = CANDIDATES.iter().find_map(|name| User::from_name(name).ok().flatten());
        let user =
            known.context("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`")?;
        Ok(Some(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
    }

    /// Makes `command` run as this user, without root's groups.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    pub(crate) fn own(&self, path: &Path) -> io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
    }

    /// Whether this user can really run `program`: a folder on the way, a mount option or a missing library may forbid it.
    pub(crate) async fn can_run(&self, program: &Path) -> bool {
        let mut command = Command::new(program);
        command.arg("--version");
        self.succeeds(command).await
    }

    /// Whether this user can really create files in `folder`.
    pub(crate) async fn can_write(&self, folder: &Path) -> bool {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"cd "$1" && : > .probe && rm .probe"#, "sh"]).arg(folder);
        self.succeeds(command).await
    }

    async fn succeeds(&self, mut command: Command) -> bool {
        self.apply(&mut command);
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.kill_on_drop(true);
        command.status().await.is_ok_and(|status| status.success())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn root_sees_where_its_servant_may_not_go() {
        let folder = tempfile::tempdir().unwrap();
        let Some(account) = Account::for_postgres(folder.path()).unwrap() else {
            return; // not root: nothing to drop to
        };
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        account.own(&inner).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!account.can_write(&inner).await);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(account.can_write(&inner).await);
        assert!(account.can_run(Path::new("/bin/ls")).await);
        // What it owns now, it keeps.
        assert_eq!(Account::for_postgres(&inner).unwrap(), Some(account));
    }
}
