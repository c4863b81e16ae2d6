//! curl.

use clawd_tests::Forge;

use super::{Lab, Needs, at_forge, elsewhere, told};
use crate::support::code;

pub(super) const NEEDS: Needs = Needs {
    program: "curl",
    executes: "",
    builds: "",
    binaries: "{ path: /usr/bin/curl }",
};

/// A lab whose project holds the certificate that vouches for the forge.
fn lab() -> (Lab, String) {
    let lab = Lab::with_forge();
    let certificate = std::fs::read(lab.forge().certificate()).unwrap();
    lab.write("ca.pem", certificate);
    lab.forge().publish("page", "a page\n").unwrap();
    let endpoints = format!("{}, {}", at_forge(Forge::HTTP), at_forge(Forge::HTTPS));
    (lab, endpoints)
}

#[test]
fn curl_downloads_and_uploads_by_http_and_https() {
    let (lab, endpoints) = lab();
    let page = "http://192.0.2.10:3000/page";
    assert_eq!(
        lab.works(&NEEDS, &endpoints, &["curl", "-sS", page]),
        "a page\n"
    );
    let page = "https://192.0.2.10:3443/page";
    let argv = ["curl", "-sS", "--cacert", "ca.pem", "-o", "saved", page];
    lab.works(&NEEDS, &endpoints, &argv);
    let saved = std::fs::read_to_string(lab.project().join("saved")).unwrap();
    assert_eq!(saved, "a page\n");

    let content: Vec<u8> = (0..=u8::MAX).cycle().take(300_000).collect();
    lab.write("large", &content);
    let upload = "https://192.0.2.10:3443/upload/";
    let argv = [
        "curl", "-sS", "--fail", "--cacert", "ca.pem", "-T", "large", upload,
    ];
    lab.works(&NEEDS, &endpoints, &argv);
    assert!(lab.forge().upload("large").unwrap() == content);
}

#[test]
fn curl_trusts_no_certificate_that_nobody_vouches_for() {
    let (lab, endpoints) = lab();
    let page = "https://192.0.2.10:3443/page";
    let output = lab.run(&NEEDS, &endpoints, &["curl", "-sS", page]);
    // CURLE_PEER_FAILED_VERIFICATION
    assert_eq!(code(&output), 60, "{}", told(&output));
}

#[test]
fn curl_connects_to_no_other_server() {
    let (lab, endpoints) = lab();
    let argv = ["curl", "-sS", "http://192.0.2.11/small"];
    let denial = elsewhere("/usr/bin/curl", 80);
    lab.is_refused(&NEEDS, &endpoints, &argv, &denial);
}
