"""Estimates what a message of protobuf takes in memory before it is parsed.

Two bytes can be a message within the message, and one byte a number of eight. So a request within the limits could
become a hundred times larger, in fields that nobody reads.
"""

from functools import cache
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

_MESSAGE_BYTES, _FIELD_BYTES = 256, 128  # that a message, and any other value with a tag of its own, takes
_MAX_DEPTH = 100  # of messages within messages, as in protobuf
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; the others are groups, which no message here has
_LONGEST_VARINT = 10
_NUMBER_BYTES = {  # of numbers that are packed one after the other in fewer bytes than they take in memory
    FieldDescriptor.CPPTYPE_INT32: 4,
    FieldDescriptor.CPPTYPE_INT64: 8,
    FieldDescriptor.CPPTYPE_UINT32: 4,
    FieldDescriptor.CPPTYPE_UINT64: 8,
    FieldDescriptor.CPPTYPE_ENUM: 4,
    FieldDescriptor.CPPTYPE_BOOL: 1,
}
_FIXED = {
    *(FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_FIXED64),
    *(FieldDescriptor.TYPE_SFIXED32, FieldDescriptor.TYPE_SFIXED64),
}
_CONTINUES = bytes(range(128, 256))  # bytes that another byte of the same number follows


class _Field(NamedTuple):
    message: Descriptor | None
    number_bytes: int  # 0: not a number that grows


def grown_bytes(content: bytes, kind: Descriptor, most: int) -> int:
    """Estimates the bytes that a message takes in memory beyond those of `content`; stops soon after `most`.

    Raises DecodeError for what is no message.
    """
    grown, at, end = 0, 0, len(content)
    fields, around = _fields(kind), []  # `around` are the ends and fields of the messages that this one lies in
    while grown <= most:
        if at == end:
            if not around:
                break
            end, fields = around.pop()
            continue
        tag, at = _varint(content, at, end)
        field, wire = fields.get(tag >> 3), tag & 7
        grown += _FIELD_BYTES
        if wire == _VARINT:
            _, at = _varint(content, at, end)
        elif wire == _BYTES:
            length, start = _varint(content, at, end)
            at = start + length
            if field is not None and field.message is not None and at <= end:
                grown += _MESSAGE_BYTES - _FIELD_BYTES
                around.append((end, fields))
                at, end, fields = start, at, _fields(field.message)
                if len(around) > _MAX_DEPTH:
                    raise DecodeError("the messages are nested too deep")
            elif field is not None and field.number_bytes:
                # Lists grow by doubling, and leave their smaller places behind.
                numbers = len(content[start:at].translate(None, _CONTINUES))
                grown += max(2 * field.number_bytes * numbers - length, 0)
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise DecodeError("a group, which no message has")
        if at > end:
            raise DecodeError("a field ends after its message")
    return grown


@cache
def _fields(kind: Descriptor) -> dict[int, _Field]:
    return {
        number: _Field(field.message_type, 0 if field.type in _FIXED else _NUMBER_BYTES.get(field.cpp_type, 0))
        for number, field in kind.fields_by_number.items()
    }


def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    """Reads a number; returns it and the place after it."""
    value = 0
    for place in range(at, min(end, at + _LONGEST_VARINT)):
        byte = content[place]
        value |= (byte & 127) << 7 * (place - at)
        if byte < 128:
            return value, place + 1
    raise DecodeError("a number has no end")
