"""The counts that a Parquet file states, checked before a reader makes room for so many values.

Readers trust the number of values in a page's header. polars ends the process, which nothing can catch, when it asks
for more memory than there is, so a damaged or hostile count must not reach it. Counts stand in Thrift's compact
protocol: the footer describes row groups and their columns, and each column is a chain of pages with a header each.
"""

from typing import Any, Final

from retrank.core.errors import StorageError

__all__ = ["check_counts"]

_MAX_ROWS_PER_BYTE: Final = 10_000  # a column of one value takes about a byte for a thousand rows
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13
_LONGEST_VARINT: Final = 10

# Field numbers of parquet.thrift.
_NUM_ROWS, _ROW_GROUPS = 3, 4  # FileMetaData
_COLUMNS = 1  # RowGroup
_COLUMN_METADATA = 3  # ColumnChunk
_NUM_VALUES, _COMPRESSED_BYTES, _DATA_OFFSET, _DICTIONARY_OFFSET = 5, 7, 9, 11  # ColumnMetaData
_UNCOMPRESSED_PAGE, _COMPRESSED_PAGE = 2, 3  # PageHeader
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 5, 7, 8
_NUM_PAGE_VALUES = 1  # each kind of page

_Struct = dict[int, Any]


def check_counts(content: bytes, where: str) -> None:
    """Refuse a Parquet file whose counts contradict each other or its size.

    Args:
        content: of the file.
        where: the file, for messages.

    Raises:
        StorageError: such a count, or no Parquet file.
    """
    try:
        problem = _problem(content)
    except (LookupError, ValueError, TypeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem is not None:
        raise StorageError("a Parquet file", problem, where, "the file is damaged: restore it")


def _problem(content: bytes) -> str | None:
    length = int.from_bytes(content[-8:-4], "little")
    if content[:4] != b"PAR1" or content[-4:] != b"PAR1" or length > len(content) - 12:
        return "no header and footer"
    limit = _MAX_ROWS_PER_BYTE * len(content)
    footer = _Compact(content, len(content) - 8 - length).struct()
    if not 0 <= footer[_NUM_ROWS] <= limit:
        return f"{footer[_NUM_ROWS]} rows in {len(content)} bytes"
    for group in footer.get(_ROW_GROUPS, []):
        if not 0 <= group[_NUM_ROWS] <= footer[_NUM_ROWS]:
            return f"{group[_NUM_ROWS]} of {footer[_NUM_ROWS]} rows in a row group"
        for column in group[_COLUMNS]:
            metadata = column[_COLUMN_METADATA]
            found = _count_values(content, metadata)
            if not found == metadata[_NUM_VALUES] <= limit:
                return f"{metadata[_NUM_VALUES]} values in a column, {found} in its pages"
    return None


def _count_values(content: bytes, column: _Struct) -> int:
    """Add up the values of a column's pages."""
    place = min(column[_DATA_OFFSET], column.get(_DICTIONARY_OFFSET) or column[_DATA_OFFSET])
    end, total = place + column[_COMPRESSED_BYTES], 0
    if not 0 <= place <= end <= len(content):
        raise ValueError("a column outside of the file")
    while place < end:
        reader = _Compact(content, place)
        header = reader.struct()
        counted = [header[kind][_NUM_PAGE_VALUES] for kind in (_DATA_PAGE, _DATA_PAGE_V2) if kind in header]
        dictionary = [header[_DICTIONARY_PAGE][_NUM_PAGE_VALUES]] if _DICTIONARY_PAGE in header else []
        sizes = [header[_UNCOMPRESSED_PAGE], header[_COMPRESSED_PAGE]]
        if len(counted) + len(dictionary) != 1 or min(*counted, *dictionary, *sizes) < 0:
            raise ValueError("a page with impossible counts")
        if dictionary and dictionary[0] > max(header[_UNCOMPRESSED_PAGE], 1) * 8:
            raise ValueError("a dictionary of more values than bits")
        total += sum(counted)
        place = reader.place + header[_COMPRESSED_PAGE]
    if place != end:
        raise ValueError("pages beyond the end of their column")
    return total


class _Compact:
    """Reads Thrift's compact protocol: structs as dicts by field number."""

    def __init__(self, content: bytes, place: int) -> None:
        self._content, self.place = content, place

    def struct(self) -> _Struct:
        found: _Struct = {}
        number = 0
        while (head := self._byte()) & 0x0F != _STOP:
            step, kind = head >> 4, head & 0x0F
            number = number + step if step else self._integer()
            found[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind)
        return found

    def _value(self, kind: int) -> Any:
        if kind == _STRUCT:
            return self.struct()
        if kind in (_LIST, _SET):
            head = self._byte()
            size = head >> 4 if head >> 4 != 0x0F else self._varint()
            return [self._value(head & 0x0F) for _ in range(size)]
        if kind == _BINARY:
            return self._skip(self._varint())
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind in (_DOUBLE, _UUID):
            return self._skip(8 if kind == _DOUBLE else 16)
        if kind in (_STOP, _MAP) or kind > _UUID:
            raise ValueError(f"a value of type {kind}")
        return self._integer()

    def _integer(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)

    def _varint(self) -> int:
        number = 0
        for shift in range(0, 7 * _LONGEST_VARINT, 7):
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise ValueError("a number of too many bytes")

    def _byte(self) -> int:
        self.place += 1
        return self._content[self.place - 1]

    def _skip(self, size: int) -> None:
        self.place += size
        if self.place > len(self._content):
            raise ValueError("a text beyond the end")
