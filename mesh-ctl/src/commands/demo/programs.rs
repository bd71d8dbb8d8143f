//! The programs of the demo, found beside this executable, so that an installed package works as a build folder does.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::leftovers::make_folder;

/// Paths of the programs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// `mesh-controller`.
    pub(crate) controller: PathBuf,
    /// `mesh-proxy`.
    pub(crate) proxy: PathBuf,
    /// `demo-app`.
    pub(crate) application: PathBuf,
}

impl Programs {
    /// Looks beside this executable.
    ///
    /// # Errors
    /// Names every program that is missing.
    pub(crate) fn find() -> anyhow::Result<Programs> {
        let executable = std::env::current_exe().context("cannot find the path of mesh-ctl")?;
        let folder = executable.parent().context("mesh-ctl has no folder")?;
        let at = |name: &str| folder.join(name);
        let found =
            Programs { controller: at("mesh-controller"), proxy: at("mesh-proxy"), application: at("demo-app") };
        let missing: Vec<&str> = [&found.controller, &found.proxy, &found.application]
            .into_iter()
            .filter(|path| !path.is_file())
            .filter_map(|path| path.file_name()?.to_str())
            .collect();
        if !missing.is_empty() {
            bail!("{} must stand beside mesh-ctl, in {}, and do not", missing.join(" and "), folder.display());
        }
        Ok(found)
    }

    /// Copies proxy and application to where other users may read them.
    ///
    /// # Errors
    /// Names what cannot be copied.
    pub(crate) fn copy_to(&self, folder: &Path) -> anyhow::Result<Programs> {
        let folder = folder.join("programs");
        make_folder(&folder, 0o755)?;
        let copy = |program: &Path| {
            let target = folder.join(program.file_name().context("a program has a name")?);
            fs::copy(program, &target).with_context(|| format!("cannot copy {}", program.display()))?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
            anyhow::Ok(target)
        };
        Ok(Programs {
            controller: self.controller.clone(),
            proxy: copy(&self.proxy)?,
            application: copy(&self.application)?,
        })
    }
}
