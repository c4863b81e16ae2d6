//! npm, with a registry of its own.

use std::{fs, path::Path, process::Command};

use clawd_tests::Forge;
use serde_json::json;

use super::{node::NODE, require};
use crate::compatibility::{Lab, Needs, at_forge, elsewhere, told};
use crate::support::code;

pub(crate) const NEEDS: Needs = Needs {
    program: "npm",
    executes: "",
    builds: "PROJECT/node_modules",
    binaries: "{ path: /usr/bin/node }",
};

const NPM: &str = "/usr/bin/npm";
const PROGRAM: &str = "#!/usr/bin/env node\nconsole.log(`hello ${process.argv[2]}`);\n";

/// Quiet, and one attempt: npm asks three times otherwise.
const FLAGS: [&str; 5] = [
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--fetch-retries=0",
    "--loglevel=error",
];

/// A project with a script, and a registry with the package that it needs.
fn lab() -> Lab {
    require(NODE, "nodejs");
    require(NPM, "npm");
    let lab = Lab::with_forge();
    lab.folder("node_modules");
    let project = json!({
        "name": "project", "version": "1.0.0",
        "scripts": { "greet": "greeting script" },
    });
    lab.write("package.json", project.to_string());
    publish(&lab);
    lab
}

/// Package `greeting`, with a program by that name.
fn publish(lab: &Lab) {
    let place = lab.forge().publish("npm-files/.keep", "").unwrap();
    let place = place.parent().unwrap();
    let package = place.join("package");
    fs::create_dir(&package).unwrap();
    let manifest = json!({
        "name": "greeting", "version": "1.0.0", "bin": { "greeting": "bin.js" },
        "scripts": { "postinstall": "node -e \"require('fs').writeFileSync('installed', '')\"" },
    });
    fs::write(package.join("package.json"), manifest.to_string()).unwrap();
    fs::write(package.join("bin.js"), PROGRAM).unwrap();
    pack(place);
    let tarball = "http://192.0.2.10:3000/npm-files/greeting-1.0.0.tgz";
    let mut version = manifest;
    version["dist"] = json!({ "tarball": tarball });
    let document = json!({
        "name": "greeting", "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": version },
    });
    let path = "npm/greeting";
    lab.forge().publish(path, document.to_string()).unwrap();
}

fn pack(place: &Path) {
    let mut tar = Command::new("tar");
    tar.args(["czf", "greeting-1.0.0.tgz", "package"]);
    let status = tar.current_dir(place).status().unwrap();
    assert!(status.success(), "{status}");
}

fn npm<'a>(arguments: &[&'a str], registry: &'a str) -> Vec<&'a str> {
    let mut argv = vec![NPM];
    argv.extend(arguments);
    argv.extend(FLAGS);
    argv.extend(["--registry", registry]);
    argv
}

#[test]
fn npm_installs_a_package_and_runs_its_program() {
    let lab = lab();
    let registry = "http://192.0.2.10:3000/npm/";
    let endpoint = at_forge(Forge::HTTP);
    lab.works(&NEEDS, &endpoint, &npm(&["install", "greeting"], registry));
    let installed = lab.project().join("node_modules/greeting/installed");
    assert!(installed.exists(), "its script did not run");
    let printed = lab.works(&NEEDS, "", &["node_modules/.bin/greeting", "link"]);
    assert_eq!(printed, "hello link\n");
    let printed = lab.works(&NEEDS, "", &[NPM, "run", "--silent", "greet"]);
    assert_eq!(printed, "hello script\n");
    let printed = lab.works(&NEEDS, "", &["npx", "--no", "greeting", "npx"]);
    assert_eq!(printed, "hello npx\n");
}

#[test]
fn npm_installs_from_no_other_registry() {
    let lab = lab();
    let registry = "http://192.0.2.11:8080/npm/";
    let argv = npm(&["install", "greeting"], registry);
    let denial = elsewhere(NODE, 8080);
    let printed = lab.is_refused(&NEEDS, &at_forge(Forge::HTTP), &argv, &denial);
    assert!(printed.contains("EPERM"), "{printed}");
}

#[test]
fn npm_program_in_a_folder_that_is_not_executable_does_not_run() {
    let lab = lab();
    let folder = lab.folder("elsewhere");
    lab.write("elsewhere/greeting", PROGRAM);
    let execute = "chmod +x greeting && ./greeting x";
    let execute = format!("cd {} && {execute}", folder.display());
    let output = lab.run(&NEEDS, "", &["sh", "-c", &execute]);
    assert_eq!(code(&output), 126, "{}", told(&output));
}
