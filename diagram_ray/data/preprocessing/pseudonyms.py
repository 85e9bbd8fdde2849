"""What stands for a patient in all that is written: keyed hashes, in ids, in names of folders, in reasons of rejects.

HMAC-SHA-256, 16 hexadecimal digits. The same key gives the same hashes, so datasets prepared with it can be joined.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import takewhile

from diagram_ray.data.records import ImageRecord, Index, Reject

TELLING = 4
"""Characters of a patient's key from which a sentence that has it is taken to mean the patient: 7 is also a number."""


@lru_cache(maxsize=4096)
def keyed_hash(key: bytes, text: str) -> str:
    """The hash of `text`: 16 hexadecimal digits that do not give it away to anyone without the key."""
    return hmac.new(key, text.encode(errors="backslashreplace"), hashlib.sha256).hexdigest()[:16]


def names(text: str, patient_id: str) -> bool:
    """Whether the patient's key is anywhere in `text`, in any case and punctuation: B-7 is in b_7.png and in xB7y."""
    return bool(patient_id) and _pattern(patient_id).search(text) is not None


def hidden(text: str, patient_id: str, stand_in: str) -> str:
    """The text with `stand_in` wherever `names` finds the patient's key."""
    return _pattern(patient_id).sub(stand_in, text) if patient_id else text


def anonymous(reject: Reject, root: str, key: bytes) -> Reject:
    """The reject with its patient's key replaced by the patient's hash.

    `root` is the folder of the whole data set: in its name, and in that of a table, only a whole word is replaced.
    Somebody's folder for 2011 does not mean the patient 1, nor does row 1.
    """
    patient = reject.patient_id
    if not patient:
        return Reject(reject.path, reject.reason)
    path, row = _row_apart(reject.path)
    top = path if row else root if path.startswith(root) else ""
    stand_in = keyed_hash(key, patient)
    reason = hidden(reject.reason, patient, stand_in) if len(patient) >= TELLING else reject.reason
    return Reject(_whole(patient).sub(stand_in, top) + hidden(path[len(top) :], patient, stand_in) + row, reason)


def anonymous_rejects(index: Index, key: bytes) -> list[Reject]:
    """What a reader could not use, without the keys of patients.

    Where the reader does not say whose a reject is, it is that patient's of the index whose key is a word of its path.
    """
    root = common_root(index.records)
    patients = {_plain(record.patient_id): record.patient_id for record in index.records}
    return [anonymous(_owned(reject, root, patients), root, key) for reject in index.rejects]


def common_root(records: Iterable[ImageRecord]) -> str:
    """The folder that all files of the records are in, without a final '/'; '' if there is none."""
    folders = sorted({record.path.rpartition("/")[0] for record in records})
    if not folders:
        return ""
    pairs = zip(folders[0].split("/"), folders[-1].split("/"), strict=False)
    return "/".join(first for first, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def source_folder(record: ImageRecord, root: str, key: bytes) -> str:
    """The folder of the image's file inside `root`, the patient's key in it replaced by the hash; '' if outside."""
    folder = record.path.rpartition("/")[0]
    if not root or not folder.startswith(f"{root}/"):
        return ""
    return hidden(folder[len(root) + 1 :], record.patient_id, keyed_hash(key, record.patient_id))


def _owned(reject: Reject, root: str, patients: dict[str, str]) -> Reject:
    """The reject with a patient, if it has none and a word of its path is one's key."""
    if reject.patient_id is not None:
        return reject
    words = re.findall(r"[^\W_]+", _row_apart(reject.path)[0].removeprefix(root))
    joined = (_plain("".join(words[at : at + many])) for many in (3, 2, 1) for at in range(len(words)))
    owner = next((patients[word] for word in joined if word in patients), None)
    return Reject(reject.path, reject.reason, owner)


def _row_apart(path: str) -> tuple[str, str]:
    """A table's path and ': row 7'; of a file its path and ''."""
    match = re.search(r": row \d+$", path)
    return (path[: match.start()], match[0]) if match else (path, "")


def _plain(text: str) -> str:
    """Letters and digits alone, in lower case: how keys are compared."""
    return re.sub(r"[\W_]", "", text).lower()


@lru_cache(maxsize=1024)
def _pattern(patient_id: str) -> re.Pattern[str]:
    """The key, with any or no punctuation where it has some."""
    words = re.findall(r"[^\W_]+", patient_id) or [patient_id]
    return re.compile(r"[\W_]*".join(map(re.escape, words)), re.IGNORECASE)


def _whole(patient_id: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_]){_pattern(patient_id).pattern}(?![^\W_])", re.IGNORECASE)
