//! Programs in C, built with make.

use std::fs;

use super::{Lab, Needs, not_listed, told};
use crate::support::code;

pub(super) const NEEDS: Needs = Needs {
    program: "make and gcc",
    executes: "",
    builds: "PROJECT/build",
    binaries: "",
};

const MAKEFILE: &str = "\
objects := build/main.o build/words.o build/connect.o
build/program: $(objects)
\tgcc -o $@ $^
build/%.o: %.c words.h
\tgcc -O1 -Wall -Werror -c -o $@ $<
";
const HEADER: &str = "const char *word(int number);\nint try_connect(void);\n";
const MAIN: &str = "\
#include <stdio.h>
#include \"words.h\"
int main(int count, char **arguments) {
    if (count > 1)
        return try_connect();
    for (int number = 0; number < 3; number++)
        printf(\"%s\\n\", word(number));
}
";
const WORDS: &str = "\
#include \"words.h\"
static const char *const words[] = {\"one\", \"two\", \"three\"};
const char *word(int number) { return words[number]; }
";
const CONNECT: &str = "\
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include \"words.h\"
int try_connect(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
    inet_pton(AF_INET, \"192.0.2.10\", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return 0;
    puts(strerror(errno));
    return 1;
}
";

fn lab() -> Lab {
    let lab = Lab::start();
    lab.folder("build");
    for (name, content) in [
        ("Makefile", MAKEFILE),
        ("words.h", HEADER),
        ("main.c", MAIN),
        ("words.c", WORDS),
        ("connect.c", CONNECT),
    ] {
        lab.write(name, content);
    }
    let printed = lab.works(&NEEDS, "", &["make", "-j2"]);
    assert!(printed.contains("gcc -o build/program"), "{printed}");
    lab
}

#[test]
fn c_program_is_built_in_parallel_and_runs_where_the_policy_says() {
    let lab = lab();
    let printed = lab.works(&NEEDS, "", &["./build/program"]);
    assert_eq!(printed, "one\ntwo\nthree\n");
    let again = lab.works(&NEEDS, "", &["make", "-j2"]);
    assert!(again.contains("up to date"), "{again}");
    // Elsewhere in the project nothing runs, whoever built it.
    let elsewhere = "cp build/program program && ./program";
    let output = lab.run(&NEEDS, "", &["sh", "-c", elsewhere]);
    assert_eq!(code(&output), 126, "{}", told(&output));
}

#[test]
fn c_program_that_was_just_built_connects_nowhere() {
    let lab = lab();
    let program = lab.project().join("build/program");
    assert!(fs::metadata(&program).unwrap().len() > 0);
    let denial = not_listed(program.to_str().unwrap(), 80);
    let endpoint = "{ host: 192.0.2.10, port: 80 }";
    let argv = ["./build/program", "connect"];
    let printed = lab.is_refused(&NEEDS, endpoint, &argv, &denial);
    assert_eq!(printed, "Operation not permitted\n");
}
