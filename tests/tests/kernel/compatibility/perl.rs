//! Perl programs.

use super::{Lab, Needs, elsewhere};

pub(super) const NEEDS: Needs = Needs {
    program: "perl",
    executes: "",
    builds: "",
    binaries: "{ path: /usr/bin/perl }",
};

const MODULE: &str = "package Greeting; sub greet { \"hello $_[0]\" } 1;\n";
const PROGRAM: &str = r#"
use strict;
use warnings;
use File::Temp;
use IO::Socket::INET;
use POSIX ();
use lib 'lib';
use Greeting;
$| = 1;
print Greeting::greet('perl'), "\n";
print 'system ', system('echo from a shell; exit 3') >> 8, "\n";
print 'backticks ', `id -u`;
my $pid = fork // die "fork: $!";
POSIX::_exit(7) if $pid == 0;
waitpid $pid, 0;
print 'fork ', $? >> 8, "\n";
open my $pipe, '-|', 'sort', 'words' or die "sort: $!";
print 'pipe ', join(',', map { chomp; $_ } <$pipe>), "\n";
my $file = File::Temp->new;
print 'temporary ', $file->filename =~ m{^/tmp/} ? 'yes' : 'no', "\n";
local $SIG{ALRM} = sub { print "alarm\n" };
alarm 1;
select undef, undef, undef, 60;
print 'names ', scalar getprotobyname('tcp'), ' ', scalar getservbyname('https', 'tcp'), "\n";
my ($host, $port) = @ARGV;
my $socket = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port, Proto => 'tcp')
    or die "connect: $!\n";
print $socket "ping\n";
print 'echo ', scalar <$socket>;
"#;

fn lab() -> Lab {
    let lab = Lab::start();
    lab.write("lib/Greeting.pm", MODULE);
    lab.write("words", "b\na\n");
    lab.write("program.pl", PROGRAM);
    lab
}

#[test]
fn perl_runs_modules_shells_children_and_sockets() {
    let lab = lab();
    let argv = ["/usr/bin/perl", "program.pl", "192.0.2.10", "7000"];
    let printed = lab.works(&NEEDS, "{ host: 192.0.2.10, port: 7000 }", &argv);
    assert_eq!(
        printed,
        "hello perl\nfrom a shell\nsystem 3\nbackticks 65534\nfork 7\npipe a,b\ntemporary yes\n\
         alarm\nnames 6 443\necho ping\n"
    );
}

#[test]
fn perl_connects_to_no_other_server() {
    let lab = lab();
    let argv = ["/usr/bin/perl", "program.pl", "192.0.2.11", "7000"];
    let denial = elsewhere("/usr/bin/perl", 7000);
    let printed = lab.is_refused(&NEEDS, "{ host: 192.0.2.10, port: 7000 }", &argv, &denial);
    assert!(
        printed.ends_with("connect: Operation not permitted\n"),
        "{printed}"
    );
}
