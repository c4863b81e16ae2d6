//! pip, with an index of its own.

use std::process::Command;

use clawd_tests::{Forge, PYTHON};

use super::require;
use crate::compatibility::{Lab, Needs, at_forge, elsewhere};

pub(crate) const NEEDS: Needs = Needs {
    program: "pip",
    executes: "",
    builds: "PROJECT/venv",
    binaries: "{ path: /usr/bin/python3 }",
};

const WHEEL: &str = "greeting-1.0-py3-none-any.whl";
/// Writes the wheel of package `greeting`, with a program by that name, to the path it is given.
const PACK: &str = r#"
import sys, zipfile
info = "greeting-1.0.dist-info"
files = {
    "greeting.py": "import sys\ndef main():\n    print('hello', sys.argv[1])\n",
    f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{info}/entry_points.txt": "[console_scripts]\ngreeting = greeting:main\n",
}
files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    for name, text in files.items():
        wheel.writestr(name, text)
"#;

/// A project with a virtual environment, and an index with a package.
fn lab() -> Lab {
    require("/var/lib/dpkg/info/python3-venv.list", "python3-venv");
    let lab = Lab::with_forge();
    lab.folder("venv");
    let certificate = std::fs::read(lab.forge().certificate()).unwrap();
    lab.write("ca.pem", certificate);
    let link = format!("<a href=\"{WHEEL}\">{WHEEL}</a>\n");
    let index = lab.forge().publish("simple/greeting/index.html", link);
    let wheel = index.unwrap().with_file_name(WHEEL);
    let mut pack = Command::new(PYTHON);
    let status = pack.args(["-I", "-c", PACK]).arg(wheel).status().unwrap();
    assert!(status.success(), "{status}");
    lab.works(&NEEDS, "", &[PYTHON, "-m", "venv", "venv"]);
    lab
}

fn install(index: &str) -> Vec<&str> {
    let mut argv = vec!["venv/bin/pip", "install", "--disable-pip-version-check"];
    argv.extend(["--retries", "0", "--cert", "ca.pem"]);
    argv.extend(["--index-url", index, "greeting"]);
    argv
}

#[test]
fn pip_installs_a_wheel_into_a_virtual_environment_and_its_program_runs() {
    let lab = lab();
    let argv = install("https://192.0.2.10:3443/simple/");
    lab.works(&NEEDS, &at_forge(Forge::HTTPS), &argv);
    let printed = lab.works(&NEEDS, "", &["venv/bin/greeting", "program"]);
    assert_eq!(printed, "hello program\n");
}

#[test]
fn pip_installs_from_no_other_index() {
    let lab = lab();
    let argv = install("https://192.0.2.11/simple/");
    let python = std::fs::canonicalize(PYTHON).unwrap();
    let denial = elsewhere(python.to_str().unwrap(), 443);
    let printed = lab.is_refused(&NEEDS, &at_forge(Forge::HTTPS), &argv, &denial);
    assert!(
        printed.contains("No matching distribution found"),
        "{printed}"
    );
}
