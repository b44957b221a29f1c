//! A staging workload from outside: its generator and its object server, two Python programs in one folder.
//!
//! `gen.py` writes the catalogue of objects and the tasks as CSV; `objserver.py` serves the objects with
//! latency, bandwidth and error rate by flag, and counts.

use super::stream::Arrival;
use crate::api::wire::Submit;
use crate::time::Span;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What the object server is called in the daemon's configuration.
const SOURCE: &str = "volumes";

/// One generated workload.
#[derive(Clone, Debug)]
pub struct Workload {
    folder: PathBuf,
    /// Bytes of all objects that some task reads.
    pub unique_bytes: u64,
    /// Task types, in alphabetical order.
    pub types: Vec<String>,
    /// Sizes of the objects that tasks read, by full name.
    pub sizes: BTreeMap<String, usize>,
    /// The tasks in their order, each at its time.
    pub online: Vec<Arrival>,
}

#[derive(Deserialize)]
struct Line {
    time_s: f64,
    task_type: String,
    entity: String,
    duration_s: f64,
    objects: String,
}

#[derive(Deserialize)]
struct Params {
    bytes_unique: u64,
}

impl Workload {
    /// Runs the generator in `programs` with a seed and further flags; the files go to `folder`.
    ///
    /// # Errors
    /// When it cannot be run, fails, or writes something else.
    pub fn generate(
        programs: &Path,
        folder: PathBuf,
        seed: u64,
        flags: &[String],
    ) -> anyhow::Result<Workload> {
        let mut command = Command::new("python3");
        command.arg(programs.join("gen.py")).arg("--out").arg(&folder).args(["--seed", &seed.to_string()]);
        let output = command.args(flags).output().context("run python3 gen.py")?;
        ensure!(output.status.success(), "gen.py: {}", String::from_utf8_lossy(&output.stderr));
        let params: Params = serde_json::from_slice(&std::fs::read(folder.join("params.json"))?)?;
        let mut online = Vec::new();
        let mut sizes = BTreeMap::new();
        for line in csv::Reader::from_path(folder.join("tasks_online.csv"))?.deserialize() {
            online.push(arrival(line?, &mut sizes)?);
        }
        let types: std::collections::BTreeSet<String> =
            online.iter().map(|a| a.submit.task_type.clone()).collect();
        Ok(Workload {
            folder,
            unique_bytes: params.bytes_unique,
            types: types.into_iter().collect(),
            sizes,
            online,
        })
    }

    /// The same tasks, all at once.
    pub fn batch(&self) -> Vec<Arrival> {
        self.online.iter().map(|a| Arrival { at: Span::ZERO, ..a.clone() }).collect()
    }

    /// Starts the object server in `programs` on the catalogue.
    ///
    /// # Errors
    /// When it cannot be run or does not say that it is ready.
    pub fn serve(&self, programs: &Path, flags: &[String]) -> anyhow::Result<ObjectServer> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new("python3");
        command.arg(programs.join("objserver.py")).arg("--catalogue").arg(self.folder.join("catalogue.csv"));
        command.args(["--port", &address.port().to_string()]).args(flags);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut server = ObjectServer { child: child.context("run python3 objserver.py")?, address };
        let output = server.child.stdout.take().context("objserver.py has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "objserver.py says `{}` instead of `ready`", line.trim());
        Ok(server)
    }
}

fn arrival(line: Line, sizes: &mut BTreeMap<String, usize>) -> anyhow::Result<Arrival> {
    let object = |item: &str| {
        let Some((name, bytes)) = item.rsplit_once(':') else { bail!("`{item}` is not name:bytes") };
        let name = format!("{SOURCE}:{name}");
        sizes.insert(name.clone(), bytes.parse().with_context(|| format!("`{item}` is not name:bytes"))?);
        Ok(name)
    };
    let inputs = line.objects.split(';').filter(|o| !o.is_empty()).map(object).collect::<Result<_, _>>()?;
    let submit = Submit {
        task_type: line.task_type,
        entity: Some(line.entity),
        args: BTreeMap::from([("ms".to_owned(), format!("{:.3}", line.duration_s * 1e3))]),
        inputs,
        ..Submit::default()
    };
    Ok(Arrival { at: Span::from_s(line.time_s), submit, follows: None })
}

/// The object server's process; ended when dropped.
pub struct ObjectServer {
    child: Child,
    address: SocketAddr,
}

/// What the object server counted.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Stats {
    /// GET requests answered with bytes.
    pub gets: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Requests that were answered with an error on purpose.
    pub errors: u64,
}

impl ObjectServer {
    /// The address that object names are appended to.
    pub fn url(&self) -> String {
        format!("http://{}/o/", self.address)
    }

    /// What it counted so far.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn stats(&self) -> anyhow::Result<Stats> {
        let socket = tokio::net::TcpStream::connect(self.address).await.context("connect to objserver.py")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::GET)
            .uri("/__stats")
            .header(header::HOST, "localhost")
            .body(Empty::<Bytes>::new())?;
        let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
        connection.abort();
        serde_json::from_slice(&body).context("objserver.py's counts")
    }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_of_the_generator() {
        let line = Line {
            time_s: 1.5,
            task_type: "snapshot-copy".to_owned(),
            entity: "vol007".to_owned(),
            duration_s: 0.0401,
            objects: "vol007/c0001:1500;vol003/index:9".to_owned(),
        };
        let mut sizes = BTreeMap::new();
        let arrival = arrival(line, &mut sizes).unwrap();
        assert_eq!(sizes["volumes:vol003/index"], 9);
        assert_eq!(arrival.at, Span::from_ms(1_500));
        assert_eq!(arrival.submit.inputs, ["volumes:vol007/c0001", "volumes:vol003/index"]);
        assert_eq!(arrival.submit.args["ms"], "40.100");
    }
}
