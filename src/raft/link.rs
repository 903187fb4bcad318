//! One connection between two nodes: a handshake, then frames.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::wire::{self, HELLO_BYTES, Hello, LinkKind, Welcome};
use crate::env::{BoxStream, Env};

/// How long connecting and shaking hands may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);
/// How long questions may be on their way. By itself TCP sends what is lost again at longer and longer intervals, so a link
/// would come back long after a long cut. Appends have a deadline of their own, and a snapshot's follower may have to
/// wait for its disk.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(2);
/// How much is read at a time.
const READ_BYTES: usize = 64 << 10;
/// A refusal's text is no longer.
const REFUSAL_BYTES_MAX: usize = 1_000;

/// A connection after its handshake.
pub struct Link {
    stream: BoxStream,
    received: BytesMut,
}

impl Link {
    /// Connects to `address` and introduces itself.
    ///
    /// # Errors
    /// When it cannot, when it takes longer than a second, or when the other side refuses
    /// (`ConnectionRefused`, with its reason).
    pub async fn connect(env: &Env, address: &str, hello: Hello) -> io::Result<Self> {
        let attempt = async {
            let mut stream = match hello.kind {
                LinkKind::Control => env.net.connect_briefly(address, UNCONFIRMED_MAX).await?,
                _ => env.net.connect(address).await?,
            };
            stream.write_all(&hello.encode()).await?;
            let length = usize::from(stream.read_u16_le().await?);
            if length == 0 {
                return Ok(Self { stream, received: BytesMut::new() });
            }
            let mut reason = vec![0; length.min(REFUSAL_BYTES_MAX)];
            stream.read_exact(&mut reason).await?;
            let reason = String::from_utf8_lossy(&reason).into_owned();
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, reason))
        };
        within(env, CONNECT_TIMEOUT, attempt).await
    }

    /// Reads the caller's hello from an accepted connection.
    ///
    /// # Errors
    /// When there is none in time. A caller that is not one of ours is told so.
    pub async fn accept(env: &Env, mut stream: BoxStream) -> io::Result<(Self, Hello)> {
        let mut bytes = [0; HELLO_BYTES];
        let read = async { stream.read_exact(&mut bytes).await.map(drop) };
        within(env, CONNECT_TIMEOUT, read).await?;
        let mut link = Self { stream, received: BytesMut::new() };
        match Hello::decode(&bytes) {
            Ok(hello) => Ok((link, hello)),
            Err(reason) => {
                link.welcome(&Err(reason.clone())).await?;
                Err(io::Error::new(io::ErrorKind::InvalidData, reason))
            }
        }
    }

    /// Answers the caller's hello.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn welcome(&mut self, welcome: &Welcome) -> io::Result<()> {
        let reason = welcome.as_ref().err().map_or("", String::as_str);
        let reason = &reason.as_bytes()[..reason.len().min(REFUSAL_BYTES_MAX)];
        let mut bytes = (reason.len() as u16).to_le_bytes().to_vec();
        bytes.extend_from_slice(reason);
        self.stream.write_all(&bytes).await
    }

    /// The next frame. Cancelling this loses nothing.
    ///
    /// # Errors
    /// When the connection broke or ended, or the frame is malformed.
    pub async fn receive(&mut self) -> io::Result<(u8, Bytes)> {
        receive(&mut self.stream, &mut self.received).await
    }

    /// Sends what was put into `out`, and empties it. Must not be cancelled.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn send(&mut self, out: &mut BytesMut) -> io::Result<()> {
        self.stream.write_all(out).await?;
        out.clear();
        Ok(())
    }

    /// The two directions, for two tasks.
    #[must_use]
    pub fn split(self) -> (Receiver, Sender) {
        let (read, write) = tokio::io::split(self.stream);
        (Receiver { stream: read, received: self.received }, Sender { stream: write })
    }
}

/// The receiving direction.
pub struct Receiver {
    stream: ReadHalf<BoxStream>,
    received: BytesMut,
}

impl Receiver {
    /// The next frame. Cancelling this loses nothing.
    ///
    /// # Errors
    /// When the connection broke or ended, or the frame is malformed.
    pub async fn receive(&mut self) -> io::Result<(u8, Bytes)> {
        receive(&mut self.stream, &mut self.received).await
    }
}

/// The sending direction.
pub struct Sender {
    stream: WriteHalf<BoxStream>,
}

impl Sender {
    /// Sends what was put into `out`, and empties it.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn send(&mut self, out: &mut BytesMut) -> io::Result<()> {
        self.stream.write_all(out).await?;
        out.clear();
        Ok(())
    }
}

async fn receive<S>(stream: &mut S, received: &mut BytesMut) -> io::Result<(u8, Bytes)>
where
    S: tokio::io::AsyncRead + Unpin,
{
    loop {
        if let Some(frame) = wire::take_frame(received)? {
            return Ok(frame);
        }
        received.reserve(READ_BYTES);
        if stream.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Gives up on `work` after `limit`.
///
/// # Errors
/// `TimedOut` then; else what `work` fails with.
pub async fn within<T>(
    env: &Env,
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    tokio::select! {
        biased;
        done = work => done,
        () = env.clock.sleep(limit) => Err(io::ErrorKind::TimedOut.into()),
    }
}
