// SPDX-License-Identifier: MPL-2.0

//! Where the library is looked for, and what is said where it is not there.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::camera::Ids;
use crate::ffi::Api;

/// Name of the SDK's C interface.
pub const LIBRARY: &str = "libsl_zed_c.so";
/// Where the SDK's installer puts it.
pub const USUAL_FOLDER: &str = "/usr/local/zed/lib";
/// The environment's word for the library's file, or the folder that it is in.
pub const VARIABLE: &str = "ZED_SDK_LIB";

/// Where to look, in this order: the loader's search path, the usual folders, what the environment names. The first library
/// that can be used is taken; one that cannot be (another version, a function that is missing) does not end the search, so
/// that `ZED_SDK_LIB` helps beside an SDK that is too old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Whether to ask the dynamic loader: `LD_LIBRARY_PATH`, `/etc/ld.so.conf`.
    pub loader: bool,
    /// Folders of an SDK's installation.
    pub folders: Vec<PathBuf>,
    /// A file or a folder, of `ZED_SDK_LIB`.
    pub named: Option<PathBuf>,
}

impl Search {
    /// What users have: the loader, `/usr/local/zed/lib`, and `ZED_SDK_LIB` where that is set.
    pub fn standard() -> Self {
        let named = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { loader: true, folders: vec![PathBuf::from(USUAL_FOLDER)], named }
    }

    /// One file or folder, and nothing else.
    pub fn only(path: impl Into<PathBuf>) -> Self {
        Self { loader: false, folders: Vec::new(), named: Some(path.into()) }
    }

    fn places(&self) -> Vec<Place> {
        let loader = self.loader.then_some(Place::Loader);
        let folders = self.folders.iter().cloned().map(Place::Folder);
        let named = match &self.named {
            Some(path) => Place::Named(path.clone()),
            None => Place::Unnamed,
        };
        loader.into_iter().chain(folders).chain([named]).collect()
    }
}

/// A place where the library was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The loader's search path.
    Loader,
    /// A usual folder.
    Folder(PathBuf),
    /// What `ZED_SDK_LIB` says.
    Named(PathBuf),
    /// `ZED_SDK_LIB` is not set.
    Unnamed,
}

impl Place {
    fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Loader => Some(LIBRARY.into()),
            Self::Folder(folder) => Some(folder.join(LIBRARY)),
            // A name without a slash would be the loader's to find.
            Self::Named(path) if path.is_dir() => Some(path.join(LIBRARY)),
            Self::Named(path) => Some(Path::new(".").join(path)),
            Self::Unnamed => None,
        }
    }

    fn attempt(&self) -> Result<Api, Refusal> {
        let file = self.file().ok_or(Refusal::Missing)?;
        if *self == Self::Loader {
            // The loader, in whatever language, begins with the file that it speaks of: by its bare name where none was
            // found, by a path where one was, or it is another that ours needs.
            let absent = format!("{LIBRARY}: ");
            return Api::load(&file).map_err(|refusal| match refusal {
                Refusal::Unloadable(why) if why.starts_with(&absent) => Refusal::Missing,
                other => other,
            });
        }
        if file.exists() { Api::load(&file) } else { Err(Refusal::Missing) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loader => f.write_str("the loader's search path"),
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Named(path) => write!(f, "{VARIABLE}={}", path.display()),
            Self::Unnamed => write!(f, "{VARIABLE} (not set)"),
        }
    }
}

/// Why there is nothing usable at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such file.
    Missing,
    /// The loader's words.
    Unloadable(String),
    /// Not 5.x.
    Version(String),
    /// Functions that it does not have.
    Symbols(Vec<&'static str>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not there"),
            Self::Unloadable(why) => write!(f, "it cannot be loaded: {why}"),
            Self::Version(version) if version.is_empty() => {
                f.write_str("it does not say its version, and 5.x is needed")
            }
            Self::Version(version) => write!(f, "it is version {version}, and 5.x is needed"),
            Self::Symbols(names) => write!(f, "it has no {}, as 5.x would", names.join(", ")),
        }
    }
}

/// The SDK is not there, or none that can be used. One line says what was looked for where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// All places that were looked at, in their order.
    pub tried: Vec<(Place, Refusal)>,
}

impl LoadError {
    /// Whether nothing at all was found; otherwise something was that cannot be used.
    pub fn is_missing(&self) -> bool {
        self.tried.iter().all(|(_, refusal)| *refusal == Refusal::Missing)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (missing, found): (Vec<_>, Vec<_>) =
            self.tried.iter().partition(|(_, refusal)| *refusal == Refusal::Missing);
        let missing: Vec<String> = missing.into_iter().map(|(place, _)| place.to_string()).collect();
        if found.is_empty() {
            return write!(f, "no ZED SDK: {LIBRARY} is not in {}", missing.join(", nor in "));
        }
        let found: Vec<String> =
            found.into_iter().map(|(place, refusal)| format!("{LIBRARY} in {place}: {refusal}")).collect();
        write!(f, "no ZED SDK that can be used: {}", found.join("; "))?;
        if missing.is_empty() { Ok(()) } else { write!(f, "; it is not in {}", missing.join(", nor in ")) }
    }
}

impl std::error::Error for LoadError {}

/// The ZED SDK, loaded; cheap to clone. It stays loaded until the process ends.
#[derive(Clone, Copy)]
pub struct Sdk {
    pub(crate) loaded: &'static Loaded,
}

/// A library, and which of its cameras' ids are in use.
pub(crate) struct Loaded {
    pub(crate) api: Api,
    pub(crate) ids: Ids,
}

/// One for each library, so that no id is handed out twice.
static LIBRARIES: Mutex<Vec<&'static Loaded>> = Mutex::new(Vec::new());

impl Sdk {
    /// Loads the SDK from where users have it: [`Search::standard`].
    ///
    /// # Errors
    /// What was looked for where, and what was wrong with what was there.
    pub fn load() -> Result<Self, LoadError> {
        Self::find(&Search::standard())
    }

    /// Loads the first library that can be used.
    ///
    /// # Errors
    /// As of [`load`](Self::load).
    pub fn find(search: &Search) -> Result<Self, LoadError> {
        let mut tried = Vec::new();
        for place in search.places() {
            match place.attempt() {
                Ok(api) => return Ok(Self { loaded: once(api) }),
                Err(refusal) => tried.push((place, refusal)),
            }
        }
        Err(LoadError { tried })
    }

    /// The version, such as `5.0.1`.
    pub fn version(&self) -> &'static str {
        self.loaded.api.version()
    }

    /// What users should know of this version: structs are known of 5.0, and while releases of one major version are said to
    /// share them, the interface's source for 5.5 has a field more within `InitParameters`.
    pub fn remark(&self) -> Option<String> {
        let mut numbers = self.version().split('.').skip(1);
        (numbers.next().unwrap_or("0") != "0").then(|| {
            format!(
                "the ZED SDK is {}, and its interface is known of 5.0: settings may not arrive as they were meant",
                self.version()
            )
        })
    }
}

impl fmt::Debug for Sdk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sdk").field("version", &self.version()).finish()
    }
}

fn once(api: Api) -> &'static Loaded {
    let mut libraries = LIBRARIES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match libraries.iter().find(|known| known.api.address == api.address) {
        Some(known) => known,
        None => {
            let loaded = Box::leak(Box::new(Loaded { api, ids: Ids::default() }));
            libraries.push(loaded);
            loaded
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_found_is_one_line_with_all_places() {
        let empty = tempfile::tempdir().unwrap();
        let folder = empty.path().display();
        let search = Search {
            loader: false,
            folders: vec![empty.path().join("zed")],
            named: Some(empty.path().to_owned()),
        };
        let mut error = Sdk::find(&search).unwrap_err();
        assert!(error.is_missing(), "{error:?}");
        // What the loader of this machine finds is another matter.
        error.tried.insert(0, (Place::Loader, Refusal::Missing));
        let line = format!(
            "no ZED SDK: libsl_zed_c.so is not in the loader's search path, nor in {folder}/zed, nor in ZED_SDK_LIB={folder}"
        );
        assert_eq!(error.to_string(), line);
        let search = Search { loader: false, folders: Vec::new(), named: None };
        let error = Sdk::find(&search).unwrap_err();
        assert_eq!(error.to_string(), "no ZED SDK: libsl_zed_c.so is not in ZED_SDK_LIB (not set)");
    }

    #[test]
    fn a_file_that_is_no_library_is_said_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(LIBRARY);
        std::fs::write(&file, "text").unwrap();
        for named in [folder.path(), &file] {
            let error = Sdk::find(&Search::only(named)).unwrap_err();
            assert!(!error.is_missing());
            let line = error.to_string();
            let begin =
                format!("no ZED SDK that can be used: libsl_zed_c.so in ZED_SDK_LIB={}", named.display());
            assert!(line.starts_with(&begin) && line.contains("cannot be loaded: "), "{line}");
            assert_eq!(line.lines().count(), 1);
        }
    }

    #[test]
    fn the_standard_places_are_the_issues() {
        let places = Search::standard().places();
        assert_eq!(places[..2], [Place::Loader, Place::Folder(USUAL_FOLDER.into())]);
        assert!(matches!(places[2..], [Place::Named(_) | Place::Unnamed]));
    }
}
