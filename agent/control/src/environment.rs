//! Which variables a run may set in the sandbox's environment.

/// Variables that make the loader or the C library load code or change its checks: a program's
/// hash would no longer tell what runs. `LD_*` besides, as a prefix (glibc and musl).
const LOADER_VARIABLES: &[&str] = &["GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES"];

/// Why a variable is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// Not a name that shells and programs agree on.
    #[error(
        "{0:?} is no variable name; expected letters, digits and `_`, not beginning with a digit"
    )]
    Name(String),
    /// It would load code into the program.
    #[error("variable {0} is refused: it changes which code the sandbox's programs load")]
    Loader(String),
    /// A zero byte, which ends a variable.
    #[error("the value of variable {0} contains a zero byte")]
    Zero(String),
}

/// Checks one variable.
///
/// # Errors
/// [`VariableError`] names the variable, never its value.
pub fn check_variable(name: &str, value: &str) -> Result<(), VariableError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let digit_first = name.as_bytes().first().is_none_or(u8::is_ascii_digit);
    if digit_first || !name.bytes().all(word) {
        return Err(VariableError::Name(name.to_owned()));
    }
    if name.starts_with("LD_") || LOADER_VARIABLES.contains(&name) {
        return Err(VariableError::Loader(name.to_owned()));
    }
    if value.contains('\0') {
        return Err(VariableError::Zero(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{VariableError, check_variable};

    #[test]
    fn variable_of_the_loader_is_refused() {
        for name in [
            "LD_PRELOAD",
            "LD_AUDIT",
            "LD_",
            "GCONV_PATH",
            "GLIBC_TUNABLES",
        ] {
            let want = Err(VariableError::Loader(name.to_owned()));
            assert_eq!(check_variable(name, "x"), want);
        }
    }

    #[test]
    fn variable_name_out_of_form_is_refused() {
        for name in ["", "1A", "A B", "A=B", "A\0", "A\n", "É"] {
            let want = Err(VariableError::Name(name.to_owned()));
            assert_eq!(check_variable(name, "x"), want);
        }
        assert_eq!(
            check_variable("A", "\0"),
            Err(VariableError::Zero("A".to_owned()))
        );
    }

    #[test]
    fn variable_ordinary_is_accepted() {
        for name in ["A", "_a1", "PATH", "OLD_LD_PRELOAD"] {
            assert_eq!(check_variable(name, "any = text"), Ok(()));
        }
    }
}
