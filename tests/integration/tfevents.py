"""Reads TensorBoard's event files from the public description of the format alone: TFRecord framing and protobuf's wire
format, nothing of ours."""
import struct


def _crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


TABLE = _crc_table()


def masked_crc(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def records(path, torn_end=False):
    data, position = path.read_bytes(), 0
    while position < len(data):
        if torn_end and len(data) - position < 12:
            return
        length, length_crc = struct.unpack_from("<QI", data, position)
        if torn_end and position + 16 + length > len(data):
            return
        assert masked_crc(data[position:position + 8]) == length_crc, f"{path}: length at {position}"
        body = data[position + 12:position + 12 + length]
        (body_crc,) = struct.unpack_from("<I", data, position + 12 + length)
        assert masked_crc(body) == body_crc, f"{path}: data at {position}"
        yield body
        position += 16 + length


def fields(message):
    """(number, value) of every field: ints, 8 or 4 raw bytes, or bytes."""
    position = 0

    def varint():
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while position < len(message):
        key = varint()
        number, wire = key >> 3, key & 7
        if wire == 0:
            yield number, varint()
            continue
        size = {1: 8, 5: 4}.get(wire)
        if size is None:
            assert wire == 2, f"wire type {wire}"
            size = varint()
        yield number, message[position:position + size]
        position += size


def _value(message):
    value = {}
    for number, content in fields(message):
        if number == 1:
            value["tag"] = content.decode()
        elif number == 2:
            value["scalar"] = struct.unpack("<f", content)[0]
        elif number == 4:
            image = dict(fields(content))
            value["image"] = {"height": image[1], "width": image[2], "colorspace": image[3], "png": image[4]}
        elif number == 5:
            histogram = dict(fields(content))
            number_of = lambda i: struct.unpack("<d", histogram[i])[0] if i in histogram else 0.0
            doubles = lambda i: list(struct.unpack(f"<{len(histogram.get(i, b'')) // 8}d", histogram.get(i, b"")))
            value["histogram"] = {"min": number_of(1), "max": number_of(2), "num": number_of(3), "sum": number_of(4),
                                  "sum_squares": number_of(5), "limits": doubles(6), "buckets": doubles(7)}
    return value


def events(path, torn_end=False):
    for record in records(path, torn_end):
        event = {"wall_time": 0.0, "step": 0, "values": []}
        for number, content in fields(record):
            if number == 1:
                event["wall_time"] = struct.unpack("<d", content)[0]
            elif number == 2:
                event["step"] = content
            elif number == 3:
                event["file_version"] = content.decode()
            elif number == 5:
                event["values"] = [_value(v) for n, v in fields(content) if n == 1]
            elif number == 7:
                event["session"] = dict(fields(content)).get(1, 0)
        yield event


def all_events(folder):
    """Of all files, in the order in which TensorBoard reads them."""
    return [event for path in sorted(folder.glob("events.out.tfevents.*")) for event in events(path)]


def scalars(folder):
    """{tag: [(step, value), …]} as written, nothing merged."""
    result = {}
    for event in all_events(folder):
        for value in event["values"]:
            if "scalar" in value:
                result.setdefault(value["tag"], []).append((event["step"], value["scalar"]))
    return result
