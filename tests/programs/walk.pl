# Perl: processes, pipes, directories, tests of files, signals.
use strict;
use warnings;
use Cwd qw(getcwd realpath);
use File::Find;
use File::Temp qw(tempdir);
use POSIX ":sys_wait_h";
$| = 1;
my $sum = 0;
for my $n (1 .. 20) {
    my $pid = open(my $from, "-|") // die "fork: $!";
    if (!$pid) { print $n * 2; exit 0 }
    $sum += <$from>;
    close $from or die "close: $!";
}
print "pipes $sum\n";
my ($files, $bytes, $links) = (0, 0, 0);
find({ no_chdir => 0, wanted => sub { lstat $_; if (-l _) { $links++ } elsif (-f _) { $files++; $bytes += -s _ } } }, "/usr/share/perl");
print "found $files files of $bytes bytes, $links links\n";
my @lines = map { scalar `sh -c 'cat /etc/debian_version'` } 1 .. 10;
print "backquotes ", scalar(grep { /^12/ } @lines), "\n";
my $directory = tempdir(DIR => "/tmp", CLEANUP => 1);
chdir $directory or die;
for my $n (1 .. 50) { open(my $to, ">", "f$n") or die; print $to $n; close $to }
rename "f$_", "g$_" or die for 1 .. 25;
symlink "g1", "link" or die;
mkdir "sub" or die;
link "g2", "sub/hard" or die;
chmod 0600, "g3" or die;
utime 1, 2, "g3" or die;
opendir my $handle, "." or die;
my @names = sort grep { !/^\./ } readdir $handle;
printf "names %d, link %s, mode %o, time %d, links %d\n", scalar @names, readlink("link"), (stat "g3")[2], (stat "g3")[9], (stat "sub/hard")[3];
print "unlinked ", unlink(glob("f* g*")), "\n";
chdir "/" or die;
my $caught = 0;
$SIG{CHLD} = sub { while ((my $pid = waitpid(-1, WNOHANG)) > 0) { $caught++ } };
for (1 .. 10) { my $pid = fork() // die; if (!$pid) { exec "/bin/true" or die } }
select undef, undef, undef, 0.01 while $caught < 10;
print "children $caught\n";
$SIG{CHLD} = "DEFAULT";
my $stat = system "sh -c 'exit 3'";
print "system ", $stat >> 8, ", died by ", system('kill -9 $$') & 127, "\n";
print "executable ", realpath("/proc/self/exe"), " $0 ", getcwd(), "\n";
exit 9;
