"""What goes over a wire, as pure functions: frames, messages, the handshake, job arguments."""

from exkiq.wire.codec import decode_call, decode_value, encode_call, encode_value
from exkiq.wire.frames import FrameDecoder, Value, encode_frame
from exkiq.wire.handshake import Agreed, Declined, Handshake, Side, Step
from exkiq.wire.hello import PROTOCOL_VERSION, Hello, Role
from exkiq.wire.messages import Kind, check, check_answer, check_request
from exkiq.wire.seal import Seal

__all__ = [
    "encode_frame",
    "FrameDecoder",
    "Value",
    "Kind",
    "check",
    "check_request",
    "check_answer",
    "Hello",
    "Role",
    "PROTOCOL_VERSION",
    "Handshake",
    "Side",
    "Step",
    "Agreed",
    "Declined",
    "Seal",
    "encode_call",
    "decode_call",
    "encode_value",
    "decode_value",
]
