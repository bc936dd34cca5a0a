//! Real programs work in a dyno as on a host, with all that is taken from its processes. Job control of a shell is in
//! `run_terminal.rs`, what a filter of system calls is often in the way of in `escape.rs`.
//!
//! A program that is not installed is left out, and that is said. `.ci/real-programs` installs them all, and with it
//! (`DYNO_TEST_PROGRAMS=all`) one that is missing is a failure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::{Host, lacks_walls, leave_out, own_router};
use crate::routing;

/// Compilers and browsers take their time on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether one of these programs is in no system folder. The test is over then, and this has said so.
fn lacks(programs: &[&str]) -> bool {
    let folders = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];
    let is_there = |program: &&str| {
        folders
            .iter()
            .any(|folder| Path::new(folder).join(program).exists())
    };
    let Some(missing) = programs.iter().find(|program| !is_there(program)) else {
        return false;
    };
    let all = std::env::var_os("DYNO_TEST_PROGRAMS").is_some();
    assert!(!all, "`{missing}` is in no system folder");
    leave_out(&format!(
        "that `{missing}` works in a dyno: it is in no system folder; `.ci/real-programs` installs it"
    ));
    true
}

/// What these commands of a shell print in a fresh dyno with these files; they must succeed.
fn output(files: &[(&str, &str)], commands: &str) -> String {
    let host = Host::new();
    let files = [&[("Procfile", "job: true\n")], files].concat();
    let app = host.folder_of("programs", &files);
    let run = host.run(&app, &["-q", &format!("set -e; {commands}")]);
    run.patience(PATIENCE).finish().succeeds().text()
}

#[test]
fn python_forks_threads_and_keeps_a_database() {
    if lacks(&["python3"]) {
        return;
    }
    let program = "
import multiprocessing, sqlite3, ssl, subprocess, threading
if __name__ == '__main__':
    print(sum(multiprocessing.Pool(4).map(abs, [-20, -22])))
    said = []
    thread = threading.Thread(target=said.append, args=[42])
    thread.start(); thread.join()
    print(said[0])
    base = sqlite3.connect('base.db')
    base.execute('create table a (b)'); base.execute('insert into a values (42)'); base.commit()
    print(base.execute('select b from a').fetchone()[0])
    print(len(ssl.create_default_context().get_ca_certs()) >= 0, subprocess.check_output(['echo', '42']).decode(), end='')
";
    let text = output(&[("try.py", program)], "/usr/bin/python3 try.py");
    assert_eq!(text, "42\n42\n42\nTrue 42\n");
}

#[test]
fn node_has_workers_and_child_processes() {
    if lacks(&["node"]) {
        return;
    }
    let program = "
const { Worker } = require('worker_threads');
new Worker('require(\"worker_threads\").parentPort.postMessage(42)', { eval: true }).on('message', (it) => {
  console.log(it);
  require('http').createServer((_, answer) => answer.end('served')).listen(0, '127.0.0.1', function () {
    require('http').get(this.address(), (answer) => answer.on('data', (it) => {
      console.log(`${it}`);
      console.log(require('child_process').execSync('echo child').toString().trim());
      process.exit(0);
    }));
  });
});
";
    let text = output(&[("try.js", program)], "node try.js");
    assert_eq!(text, "42\nserved\nchild\n");
}

/// Whether dynos here have no control group that they could see. The test is over then, and this has said so.
fn sees_no_group(program: &str) -> bool {
    let groups = "ls /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true";
    let none = lacks_walls() || output(&[], groups).is_empty();
    if none {
        let why = "a dyno here sees no control group";
        leave_out(&format!(
            "that {program} keeps to the memory of its size: {why}"
        ));
    }
    none
}

#[test]
fn node_keeps_to_the_memory_of_its_size() {
    if lacks(&["node"]) || sees_no_group("node") {
        return;
    }
    // The program ends, by its own limit, and the dyno does not have R15.
    let program = "const kept = []; while (true) kept.push(new Array(1e5).fill(kept.length));";
    let text = output(
        &[("try.js", program)],
        "node try.js 2>&1 | grep -o 'heap out of memory' | sort -u",
    );
    assert_eq!(text, "heap out of memory\n");
}

#[test]
fn ruby_forks_threads_and_listens() {
    if lacks(&["ruby"]) {
        return;
    }
    let program = "
require 'socket'
ours, theirs = IO.pipe
fork { theirs.puts 42 }
Process.wait
puts ours.gets, Thread.new { 42 }.value
server = TCPServer.new('127.0.0.1', 0)
Thread.new { server.accept.puts 'served' }
puts TCPSocket.new('127.0.0.1', server.addr[1]).gets
";
    let text = output(&[("try.rb", program)], "ruby try.rb");
    assert_eq!(text, "42\n42\nserved\n");
}

#[test]
fn java_compiles_and_has_threads() {
    if lacks(&["java", "javac"]) {
        return;
    }
    let program = "
class Try {
    public static void main(String[] words) throws Exception {
        var thread = new Thread(() -> System.out.println(6 * 7));
        thread.start();
        thread.join();
        var process = new ProcessBuilder(\"echo\", \"child\").inheritIO().start();
        System.exit(process.waitFor());
    }
}
";
    let text = output(&[("Try.java", program)], "javac Try.java; java Try");
    assert_eq!(text, "42\nchild\n");
}

#[test]
fn a_jvm_keeps_to_the_memory_of_its_size() {
    if lacks(&["java", "javac"]) || sees_no_group("a JVM") {
        return;
    }
    let program = "
class Try {
    public static void main(String[] words) {
        System.out.println((Runtime.getRuntime().maxMemory() >> 20) < 512);
        var kept = new java.util.ArrayList<byte[]>();
        try {
            while (true) kept.add(new byte[1 << 20]);
        } catch (OutOfMemoryError error) {
            kept = null;
            System.out.println(\"full\");
        }
    }
}
";
    let text = output(&[("Try.java", program)], "javac Try.java; java Try");
    assert_eq!(text, "true\nfull\n");
}

#[test]
fn go_builds_a_program_that_runs() {
    if lacks(&["go"]) {
        return;
    }
    let program = "
package main

import \"fmt\"

func main() {
\tsaid := make(chan int)
\tgo func() { said <- 42 }()
\tfmt.Println(<-said)
}
";
    let text = output(
        &[("main.go", program), ("go.mod", "module try\n")],
        "GOTOOLCHAIN=local GOFLAGS=-mod=mod go build -o try .; ./try",
    );
    assert_eq!(text, "42\n");
}

const C: &str =
    "int twice(int x) {\n  return 2 * x;\n}\nint main(void) {\n  return twice(21) != 42;\n}\n";

#[test]
fn a_compiler_a_debugger_and_a_tracer_work() {
    if lacks(&["cc", "gdb", "strace"]) {
        return;
    }
    let text = output(
        &[("try.c", C)],
        "cc -g try.c -o try; ./try; \
         gdb -batch -ex 'break twice' -ex run -ex 'print x' -ex backtrace -ex continue ./try 2>&1 | grep -oE '^.1 = 21|^#1 .* in main|exited normally'; \
         strace -f -o traced sh -c './try & wait'; grep -c 'execve(' traced",
    );
    let mut lines: Vec<&str> = text.lines().collect();
    assert!(lines.remove(1).ends_with("in main"), "{text}");
    assert_eq!(lines, ["$1 = 21", "exited normally", "2"], "{text}");
}

#[test]
fn git_clones_and_commits() {
    if lacks(&["git"]) {
        return;
    }
    let text = output(
        &[],
        "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; \
         git init -q one; cd one; echo 42 >file; git add file; git commit -q -m first; cd ..; \
         git clone -q one two; cd two; cat file; git commit -q --allow-empty -m second; git push -q origin HEAD:other; git -C ../one log --format=%s other",
    );
    assert_eq!(text, "42\nsecond\nfirst\n");
}

/// The folder of PostgreSQL's own programs, which are on no `PATH`; None where it is not installed.
pub fn postgresql() -> Option<PathBuf> {
    let mut versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    Some(versions.next()?.unwrap().path().join("bin"))
}

#[test]
fn postgresql_runs_as_the_user_of_the_dyno() {
    // In folders a dyno of root's has a user without a name, which PostgreSQL asks for, and the host's `/tmp`.
    if lacks_walls() {
        return;
    }
    let Some(programs) = postgresql() else {
        lacks(&["/usr/lib/postgresql"]);
        return;
    };
    let commands = format!(
        "PATH={}:$PATH; initdb -D /tmp/base -U dyno >/dev/null 2>&1; \
         pg_ctl -D /tmp/base -l /tmp/log -w -o '-c listen_addresses= -k /tmp' start >/dev/null; \
         psql -h /tmp -U dyno -At -c 'create table a (b int); insert into a values (6 * 7); select b, current_user from a' postgres | tail -n 1; \
         pg_ctl -D /tmp/base -m fast stop | tail -n 1",
        programs.display()
    );
    assert_eq!(output(&[], &commands), "42|dyno\nserver stopped\n");
}

#[test]
fn redis_answers() {
    if lacks_walls() || lacks(&["redis-server", "redis-cli"]) {
        return;
    }
    let text = output(
        &[],
        "redis-server --port 0 --unixsocket /tmp/redis --save '' --daemonize yes >/dev/null; \
         until redis-cli -s /tmp/redis ping 2>/dev/null | grep PONG; do sleep 0.05; done; \
         redis-cli -s /tmp/redis set key 42; redis-cli -s /tmp/redis get key; redis-cli -s /tmp/redis shutdown nosave",
    );
    assert_eq!(text, "PONG\nOK\n42\n");
}

#[test]
fn nginx_serves_visitors_by_the_router() {
    if lacks_walls() || lacks(&["nginx"]) {
        return;
    }
    let host = Host::with(&[("DYNO_ROUTER", &own_router())]);
    let configuration = "daemon off;
pid /tmp/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    server {
        listen PORT;
        root /app/www;
    }
}
";
    let files = [
        (
            "Procfile",
            "web: sed \"s/PORT/$PORT/\" template >nginx.conf && exec /usr/sbin/nginx -e stderr -c /app/nginx.conf\n",
        ),
        ("template", configuration),
        ("www/index.html", "served by nginx\n"),
    ];
    let app = host.folder_of("shop", &files);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    let answer = routing::get(routing::router(&host), "/");
    assert_eq!(answer, (200, "served by nginx\n".to_owned()));
}

#[test]
fn a_browser_shows_a_page() {
    if lacks_walls() || lacks(&["chromium"]) {
        return;
    }
    let page = "<p id=a></p><script>document.getElementById('a').textContent = 6 * 7</script>";
    let text = output(
        &[("page.html", page)],
        "chromium --headless --no-sandbox --disable-gpu --dump-dom file:///app/page.html 2>/dev/null",
    );
    assert!(text.contains("<p id=\"a\">42</p>"), "{text}");
}
