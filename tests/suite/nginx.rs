//! A real nginx from the system's packages, on loopback.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Serves a folder below `/o/` until it is dropped.
pub struct Nginx {
    process: Child,
    port: u16,
    _own: tempfile::TempDir,
}

impl Nginx {
    /// `None` where nginx is not installed; says so, and fails where `CI=true` promises it.
    pub fn serve(folder: &Path) -> Option<Nginx> {
        let places = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
        let Some(program) = places.into_iter().find(|p| Path::new(p).exists()) else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "nginx is not installed");
            eprintln!("skipped: nginx is not installed");
            return None;
        };
        let own = tempfile::tempdir().unwrap();
        // Free a moment ago; whoever takes it in between makes the wait below fail, loudly.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config: PathBuf = own.path().join("nginx.conf");
        std::fs::write(&config, configuration(folder, port)).unwrap();
        let process = Command::new(program)
            .args(["-p", own.path().to_str().unwrap(), "-e", "error.log", "-c", config.to_str().unwrap()])
            .spawn()
            .unwrap();
        let nginx = Nginx { process, port, _own: own };
        crate::house::until("nginx listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Some(nginx)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/o/", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(folder: &Path, port: u16) -> String {
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path tmp-{name};\n"))
        .collect();
    format!(
        "{user} daemon off; master_process off; pid nginx.pid;
         events {{ worker_connections 128; }}
         http {{ access_log off; {temporary}
           server {{ listen 127.0.0.1:{port}; location /o/ {{ alias {}/; }} }} }}",
        folder.display()
    )
}
