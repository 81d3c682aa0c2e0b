"""The network between a worker and PostgreSQL: a test can stall it, cut it, or lose its replies."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Literal

Action = Literal["hold", "reset", "lose reply"]

_BUFFER = 1 << 16
_TICK = 0.02  # seconds between two looks at what the test wants
# PostgreSQL's frontend messages: a startup packet has no type byte and says what it is by a code.
_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104
_BEGIN, _COMMIT, _ROLLBACK = b"BEGIN", b"COMMIT\0", b"ROLLBACK\0"


class Trap:
    """Waits for one statement, or for the COMMIT of the transaction that it is in, if in any."""

    def __init__(self, statement: str, action: Action, *, commit: bool) -> None:
        self.statement, self.action, self.commit = statement.encode(), action, commit
        self.sprung = threading.Event()  # by then the action has been done
        self.go = threading.Event()  # ends a hold


class Proxy:
    """Listens on 127.0.0.1 and passes everything to the server's UNIX socket, unless told not to.

    Args:
        target: The server's socket.
        tls: Speak TLS to clients that ask for it, with this certificate; the server knows nothing
            of it. Without one, the server's own answer is passed on.
    """

    def __init__(self, target: Path, tls: ssl.SSLContext | None = None) -> None:
        self.target, self.tls = target, tls
        self.flowing = threading.Event()
        self.flowing.set()
        self._links: list[_Link] = []
        self._traps: list[Trap] = []
        self._lock = threading.Lock()
        self._closed = False
        self._listener: socket.socket | None = None
        self.port = 0
        self.accept()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._closed = True
        self.refuse()
        self.reset()
        self.flowing.set()

    def accept(self) -> None:
        """Take connections, on the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Refuse new connections; what is open stays."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()

    def stall(self) -> None:
        """Let nothing through, in either direction, while every connection stays open."""
        self.flowing.clear()

    def heal(self) -> None:
        """Go on where `stall` stopped."""
        self.flowing.set()

    def reset(self) -> None:
        """Cut every connection."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.dead.set()
        for link in links:
            link.thread.join(timeout=5.0)

    def trap(self, statement: str, action: Action, *, commit: bool = False) -> Trap:
        """Do something, once, to the first statement that holds this text.

        Args:
            statement: A part of it.
            action: `hold` it back until `Trap.go` is set, `reset` the connection instead of passing
                it on, or pass it on, `lose` the server's `reply` and then reset.
            commit: Do it to the COMMIT of the transaction that the statement is in; a statement
                that is a transaction of its own has none.
        """
        trap = Trap(statement, action, commit=commit)
        with self._lock:
            self._traps.append(trap)
        return trap

    def take(
        self, message: bytes, armed: Trap | None, *, alone: bool
    ) -> tuple[Trap | None, Trap | None]:
        """The trap that this message springs, and the one that its COMMIT will.

        Args:
            message: Of the client.
            armed: The one that a COMMIT springs.
            alone: There is no transaction, so a statement is one of its own.
        """
        if armed is not None:
            return (armed, None) if message.endswith(_COMMIT) else (None, armed)
        with self._lock:
            for trap in self._traps:
                if trap.statement in message:
                    self._traps.remove(trap)
                    return (None, trap) if trap.commit and not alone else (trap, None)
        return None, None

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                link = _Link(self, client)
                self._links.append(link)
            link.thread.start()


class _Link:
    """One client's connection, relayed by one thread."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy, self._client = proxy, client
        self.dead = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._from_client = b""
        self._started = False  # past the startup packet
        self._alone = True  # outside of a transaction
        self._armed: Trap | None = None
        self._swallowing: Trap | None = None
        self._swallowed = b""

    def _run(self) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._proxy.target))
            self._relay(server)
        except OSError:  # either side is gone, or the TLS handshake failed
            pass
        finally:
            # Without lingering, close() sends a reset instead of an orderly end.
            with contextlib.suppress(OSError):
                self._client.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            self._client.close()
            server.close()

    def _relay(self, server: socket.socket) -> None:
        while not self.dead.is_set():
            if not self._proxy.flowing.wait(_TICK):
                continue
            pending = isinstance(self._client, ssl.SSLSocket) and self._client.pending() > 0
            ready = select.select([self._client, server], [], [], 0.0 if pending else _TICK)[0]
            if not self._proxy.flowing.is_set():
                continue  # it stays in the kernel's buffers until the network is back
            if self._client in ready or pending:
                data = self._client.recv(_BUFFER)
                if not data:
                    return
                self._from_client += data
                self._pass_to(server)
            if server in ready:
                data = server.recv(_BUFFER)
                if not data:
                    return
                if self._swallowing is None:
                    self._client.sendall(data)
                elif self._swallow(data):
                    return

    def _pass_to(self, server: socket.socket) -> None:
        """Forward the whole messages that have arrived."""
        while (message := self._next_message()) is not None:
            if not self._started:
                self._start(message, server)
                continue
            if message[5:].startswith(_BEGIN):
                self._alone = False
            elif message.endswith((_COMMIT, _ROLLBACK)):
                self._alone = True
            sprung, self._armed = self._proxy.take(message, self._armed, alone=self._alone)
            if sprung is not None and not self._spring(sprung):
                return
            server.sendall(message)

    def _next_message(self) -> bytes | None:
        kind = 1 if self._started else 0  # bytes before the length
        if len(self._from_client) < kind + 4:
            return None
        (length,) = struct.unpack_from("!I", self._from_client, kind)
        end = kind + length
        if len(self._from_client) < end:
            return None
        message, self._from_client = self._from_client[:end], self._from_client[end:]
        return message

    def _start(self, message: bytes, server: socket.socket) -> None:
        """Handle what comes before the typed messages: requests for encryption, then the start."""
        code = struct.unpack_from("!I", message, 4)[0] if len(message) >= 8 else 0
        if code == _SSL_REQUEST and self._proxy.tls is not None:
            self._client.sendall(b"S")
            self._client = self._proxy.tls.wrap_socket(self._client, server_side=True)
        elif code == _GSS_REQUEST:
            self._client.sendall(b"N")
        else:
            self._started = code != _SSL_REQUEST
            server.sendall(message)

    def _spring(self, trap: Trap) -> bool:
        """Do what the trap says; whether to pass the message on."""
        if trap.action == "reset":
            self.dead.set()
            trap.sprung.set()
            return False
        if trap.action == "lose reply":
            self._swallowing = trap
            return True
        trap.sprung.set()
        while not trap.go.wait(_TICK):
            if self.dead.is_set():
                return False
        return True

    def _swallow(self, data: bytes) -> bool:
        """Keep the reply back; whether it is complete."""
        self._swallowed += data
        if self._swallowed[-6:-1] != b"Z\0\0\0\5":  # ReadyForQuery
            return False
        assert self._swallowing is not None
        self._swallowing.sprung.set()
        return True
