"""A WebSocket at /ws (RFC 6455) that sends every message back, text as text and bytes as bytes. Without extensions."""

import base64
import hashlib
import struct

import web

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MAX_MESSAGE = 32 << 20
# Section 7.4: what a peer may give as its reason.
CLOSE_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}


class Broken(Exception):
    """The peer breaks the protocol; the argument is the code to say so with."""


class Handler(web.Handler):
    def do_GET(self):
        if self.path.split("?")[0] != "/ws":
            return super().do_GET()
        key = self.headers.get("Sec-WebSocket-Key")
        upgrades = self.headers.get("Upgrade", "").lower() == "websocket"
        if not (key and upgrades and self.headers.get("Sec-WebSocket-Version") == "13"):
            return self.answer(400, b"no WebSocket handshake\n")
        accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        self.send_response_only(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.close_connection = True
        try:
            self.echo()
        except Broken as broken:
            self.send(CLOSE, struct.pack("!H", broken.args[0]))
        except (ConnectionError, EOFError):
            print("peer gone", flush=True)

    def echo(self):
        kind, message = None, b""
        while True:
            final, opcode, payload = self.receive()
            if opcode == CLOSE:
                return self.send(CLOSE, close_answer(payload))
            elif opcode == PING:
                self.send(PONG, payload)
            elif opcode in (TEXT, BINARY, CONTINUATION):
                if (opcode == CONTINUATION) != (kind is not None):
                    raise Broken(1002)
                kind = opcode or kind
                message += payload
                if len(message) > MAX_MESSAGE:
                    raise Broken(1009)
                if final:
                    if kind == TEXT:
                        check_text(message)
                    self.send(kind, message)
                    kind, message = None, b""

    def receive(self):
        """One frame: whether it is the last of its message, its opcode and its payload (section 5.2)."""
        first, second = self.exactly(2)
        final, opcode, length = bool(first & 0x80), first & 0x0F, second & 0x7F
        masked = second & 0x80
        known = opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
        if first & 0x70 or not masked or not known:
            raise Broken(1002)
        if opcode >= CLOSE and (not final or length > 125):
            raise Broken(1002)
        if length == 126:
            (length,) = struct.unpack("!H", self.exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.exactly(8))
        if length > MAX_MESSAGE:
            raise Broken(1009)
        mask = self.exactly(4)
        return final, opcode, unmasked(self.exactly(length), mask)

    def exactly(self, length):
        data = self.rfile.read(length)
        if len(data) < length:
            raise EOFError
        return data

    def send(self, opcode, payload):
        head = bytes([0x80 | opcode])
        if len(payload) <= 125:
            head += bytes([len(payload)])
        elif len(payload) < 1 << 16:
            head += struct.pack("!BH", 126, len(payload))
        else:
            head += struct.pack("!BQ", 127, len(payload))
        self.wfile.write(head + payload)


def unmasked(payload, mask):
    """As one big number: byte after byte is too slow for megabytes."""
    length = len(payload)
    pad = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(length, "big")


def check_text(text):
    try:
        text.decode()
    except UnicodeDecodeError:
        raise Broken(1007) from None


def close_answer(payload):
    """The code of a close frame, sent back; none if it had none."""
    if not payload:
        return b""
    if len(payload) < 2:
        raise Broken(1002)
    (code,) = struct.unpack("!H", payload[:2])
    if code not in CLOSE_CODES and not 3000 <= code <= 4999:
        raise Broken(1002)
    check_text(payload[2:])
    return payload[:2]


web.serve(Handler)
