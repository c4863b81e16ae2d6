//! Which variables a run may set in the sandbox's environment.

use std::collections::BTreeSet;

/// Why a variable is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// Not a name that shells and programs agree on.
    #[error(
        "{0:?} is no variable name; expected letters, digits and `_`, not beginning with a digit"
    )]
    Name(String),
    /// A program would do what the variable says in place of what its file says.
    #[error(
        "variable {name} is refused: {reason}; if that is meant, set it in the policy (`env: {{ {name}: ... }}`) or list it there (`env_allow: [{name}]`)"
    )]
    Code {
        /// Its name.
        name: String,
        /// What it makes programs do.
        reason: &'static str,
    },
    /// A zero byte, which ends a variable.
    #[error("the value of variable {0} contains a zero byte")]
    Zero(String),
}

const LIBRARIES: &str = "the loader maps libraries of its choice into every program";
const C_LIBRARY: &str = "it makes the C library load code, or changes its checks";
const MESSAGES: &str = "it makes the C library read texts and tables of its choice";
const NAMES: &str = "it changes which hosts names lead to";
const TLS: &str = "it makes the TLS library load code or change its checks";
const TLS_KEYS: &str = "it has the keys of TLS connections written into a file";
const PYTHON: &str = "Python executes or imports what it names";
const NODE: &str = "it adds options and modules to every start of Node";
const BUN: &str = "it adds options to every start of Bun";
const DENO: &str = "it changes where Deno gets its modules from";
const PERL: &str = "Perl executes or loads what it names";
const RUBY: &str = "Ruby executes or loads what it names";
const LUA: &str = "Lua executes or loads what it names";
const PHP: &str = "PHP reads settings of its choice, which can load code";
const R: &str = "R executes the file that it names";
const TCL: &str = "Tcl loads what it names";
const JAVA: &str = "it adds options or classes to every start of Java, agents among them";
const DOTNET: &str = "it makes .NET load code at every start";
const SHELL: &str = "shells execute the file that it names, or commands in it";
const GIT: &str = "git executes what it names, or reads settings that do";
const SSH: &str = "ssh executes what it names";
const PAGER: &str = "less executes what it holds";
const CURL: &str = "curl reads settings of its choice, which can send data elsewhere";
const BUILD: &str = "builds execute what it names in place of the compiler";
const MAKE: &str = "make reads and executes what it holds or names";
const TERMINAL: &str = "programs load modules of its choice";

/// Variables that make a program do what its file does not say, so that its hash no longer tells what
/// runs. What merely names a program for people (`EDITOR`, `PAGER`) is not among them.
const CODE: &[(&str, &str)] = &[
    ("GCONV_PATH", C_LIBRARY),
    ("GETCONF_DIR", C_LIBRARY),
    ("GLIBC_TUNABLES", C_LIBRARY),
    ("MALLOC_TRACE", C_LIBRARY),
    ("LOCPATH", MESSAGES),
    ("NLSPATH", MESSAGES),
    ("HOSTALIASES", NAMES),
    ("LOCALDOMAIN", NAMES),
    ("RES_OPTIONS", NAMES),
    ("RESOLV_HOST_CONF", NAMES),
    ("OPENSSL_CONF", TLS),
    ("OPENSSL_ENGINES", TLS),
    ("OPENSSL_MODULES", TLS),
    ("SSLKEYLOGFILE", TLS_KEYS),
    ("PYTHONBREAKPOINT", PYTHON),
    ("PYTHONEXECUTABLE", PYTHON),
    ("PYTHONHOME", PYTHON),
    ("PYTHONINSPECT", PYTHON),
    ("PYTHONPATH", PYTHON),
    ("PYTHONPLATLIBDIR", PYTHON),
    ("PYTHONPYCACHEPREFIX", PYTHON),
    ("PYTHONSTARTUP", PYTHON),
    ("PYTHONUSERBASE", PYTHON),
    ("PYTHONWARNINGS", PYTHON),
    ("NODE_OPTIONS", NODE),
    ("NODE_PATH", NODE),
    ("NODE_REPL_EXTERNAL_MODULE", NODE),
    ("BUN_OPTIONS", BUN),
    ("BUN_INSPECT_PRELOAD", BUN),
    ("DENO_DIR", DENO),
    ("PERL5DB", PERL),
    ("PERL5LIB", PERL),
    ("PERL5OPT", PERL),
    ("PERLLIB", PERL),
    ("RUBYLIB", RUBY),
    ("RUBYOPT", RUBY),
    ("GEM_HOME", RUBY),
    ("GEM_PATH", RUBY),
    ("BUNDLE_GEMFILE", RUBY),
    ("PHPRC", PHP),
    ("PHP_INI_SCAN_DIR", PHP),
    ("R_PROFILE", R),
    ("R_PROFILE_USER", R),
    ("TCLLIBPATH", TCL),
    ("TCL_LIBRARY", TCL),
    ("CLASSPATH", JAVA),
    ("JAVA_TOOL_OPTIONS", JAVA),
    ("JDK_JAVA_OPTIONS", JAVA),
    ("_JAVA_OPTIONS", JAVA),
    ("DOTNET_ADDITIONAL_DEPS", DOTNET),
    ("DOTNET_SHARED_STORE", DOTNET),
    ("DOTNET_STARTUP_HOOKS", DOTNET),
    ("CORECLR_ENABLE_PROFILING", DOTNET),
    ("CORECLR_PROFILER", DOTNET),
    ("CORECLR_PROFILER_PATH", DOTNET),
    ("BASHOPTS", SHELL),
    ("BASH_ENV", SHELL),
    ("ENV", SHELL),
    ("PROMPT_COMMAND", SHELL),
    ("PS4", SHELL),
    ("SHELLOPTS", SHELL),
    ("ZDOTDIR", SHELL),
    ("GIT_ASKPASS", GIT),
    ("GIT_EXEC_PATH", GIT),
    ("GIT_EXTERNAL_DIFF", GIT),
    ("GIT_PROXY_COMMAND", GIT),
    ("GIT_SSH", GIT),
    ("GIT_SSH_COMMAND", GIT),
    ("GIT_TEMPLATE_DIR", GIT),
    ("SSH_ASKPASS", SSH),
    ("SSH_PKCS11_HELPER", SSH),
    ("SSH_SK_HELPER", SSH),
    ("LESSCLOSE", PAGER),
    ("LESSOPEN", PAGER),
    ("CURL_HOME", CURL),
    ("CARGO_BUILD_RUSTC", BUILD),
    ("CARGO_BUILD_RUSTC_WRAPPER", BUILD),
    ("COMPILER_PATH", BUILD),
    ("GCC_EXEC_PREFIX", BUILD),
    ("GNUMAKEFLAGS", MAKE),
    ("MAKEFILES", MAKE),
    ("MAKEFLAGS", MAKE),
    ("RUSTC", BUILD),
    ("RUSTC_WORKSPACE_WRAPPER", BUILD),
    ("RUSTC_WRAPPER", BUILD),
    ("GIO_EXTRA_MODULES", TERMINAL),
    ("GTK_MODULES", TERMINAL),
    ("QT_PLUGIN_PATH", TERMINAL),
];

/// Families of such variables, by how their names begin. Lua has names of its own for each version.
/// npm takes its settings in any case, so no family is told from another by case.
const CODE_PREFIXES: &[(&str, &str)] = &[
    ("LD_", LIBRARIES),
    ("GIT_CONFIG", GIT),
    ("NPM_CONFIG_", NODE),
    ("LUA_CPATH", LUA),
    ("LUA_INIT", LUA),
    ("LUA_PATH", LUA),
];

/// Checks one variable of a request. `env_allow` is the policy's: it gives leave to set variables that
/// change which code runs.
///
/// # Errors
/// [`VariableError`] names the variable, never its value.
pub fn check_variable(
    name: &str,
    value: &str,
    env_allow: &BTreeSet<String>,
) -> Result<(), VariableError> {
    check_form(name, value)?;
    match code_reason(name) {
        Some(reason) if !env_allow.contains(name) => {
            let name = name.to_owned();
            Err(VariableError::Code { name, reason })
        }
        _ => Ok(()),
    }
}

/// Checks what can be told of a variable without the policy.
///
/// # Errors
/// [`VariableError::Name`] and [`VariableError::Zero`].
pub fn check_form(name: &str, value: &str) -> Result<(), VariableError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let digit_first = name.as_bytes().first().is_none_or(u8::is_ascii_digit);
    if digit_first || !name.bytes().all(word) {
        return Err(VariableError::Name(name.to_owned()));
    }
    if value.contains('\0') {
        return Err(VariableError::Zero(name.to_owned()));
    }
    Ok(())
}

/// What a variable makes programs do, if that is more than to tell them something.
fn code_reason(name: &str) -> Option<&'static str> {
    let exact = CODE.iter().find(|(known, _)| *known == name);
    let family = || {
        let mut families = CODE_PREFIXES.iter();
        families.find(|(prefix, _)| {
            let begin = name.get(..prefix.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
        })
    };
    exact.or_else(family).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::{CODE, CODE_PREFIXES, VariableError, check_form, check_variable};

    fn allowing(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn variable_that_changes_which_code_runs_is_refused_by_name_and_reason() {
        let listed = CODE.iter().map(|(name, _)| *name);
        let families = [
            "LD_PRELOAD",
            "LD_AUDIT",
            "LD_",
            "GIT_CONFIG_COUNT",
            "GIT_CONFIG_KEY_0",
            "npm_config_node_options",
            "NPM_CONFIG_SCRIPT_SHELL",
            "Npm_Config_script_shell",
            "LUA_INIT_5_4",
            "LUA_CPATH_5_3",
        ];
        for name in listed.chain(families) {
            let error = check_variable(name, "hunter2", &BTreeSet::new()).expect_err(name);
            assert!(matches!(error, VariableError::Code { .. }), "{name}");
            let told = error.to_string();
            assert!(told.contains(name) && told.contains("env_allow"), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
            assert_eq!(check_variable(name, "x", &allowing(&[name])), Ok(()));
            // Leave for one is none for others.
            assert!(check_variable(name, "x", &allowing(&["LD_X", "ENV_"])).is_err());
        }
    }

    #[test]
    fn variables_are_listed_once_with_a_reason_each() {
        let all: Vec<_> = CODE.iter().chain(CODE_PREFIXES).collect();
        let names: HashSet<_> = all.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), all.len());
        for (name, reason) in all {
            assert!(reason.len() > 10, "{name}");
            assert!(!name.is_empty());
        }
    }

    #[test]
    fn variable_name_out_of_form_is_refused_whoever_gives_leave() {
        for name in ["", "1A", "A B", "A=B", "A\0", "A\n", "É"] {
            let want = Err(VariableError::Name(name.to_owned()));
            assert_eq!(check_form(name, "x"), want);
            assert_eq!(check_variable(name, "x", &allowing(&[name])), want);
        }
        assert_eq!(
            check_form("A", "\0"),
            Err(VariableError::Zero("A".to_owned()))
        );
    }

    #[test]
    fn variable_ordinary_is_accepted() {
        for name in [
            "A",
            "_a1",
            "PATH",
            "OLD_LD_PRELOAD",
            "PYTHONUNBUFFERED",
            "GIT_PAGER",
            "GIT_AUTHOR_NAME",
            "EDITOR",
            "NODE_ENV",
            "ENVIRONMENT",
        ] {
            let checked = check_variable(name, "any = text", &BTreeSet::new());
            assert_eq!(checked, Ok(()), "{name}");
        }
    }
}
