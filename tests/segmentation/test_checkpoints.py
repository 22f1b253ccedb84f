"""Public checkpoints: made by mmengine's own Runner, read without executing anything, compared strictly."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner

from freemask import files
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.segmentation.checkpoints import import_weights, read_checkpoint
from freemask.segmentation.config import Experiment, config_text, resolve
from freemask.segmentation.inference import load_segmentor
from freemask.segmentation.runner import read_config

ROOT = Path(__file__).parents[2]
NAMES = ["sky", "sea", "ship"]


class Blobs(torch.utils.data.Dataset):
    """Eight random images with masks, as mmseg's pipelines leave them."""

    METAINFO = {"classes": ("sky ", "sea", "ship"), "palette": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}
    metainfo = METAINFO

    def __len__(self):
        return 8

    def __getitem__(self, index):
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        generator = torch.Generator().manual_seed(index)
        sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 3, (1, 32, 32), generator=generator)))
        sample.set_metainfo({"ori_shape": (32, 32), "img_shape": (32, 32)})
        return {"inputs": torch.randint(0, 255, (3, 32, 32), generator=generator, dtype=torch.uint8),
                "data_samples": sample}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a row's config.py, and the checkpoint of a run of mmengine's Runner with its whole meta."""
    folder, before = tmp_path_factory.mktemp("imports"), Path.cwd()
    os.chdir(folder)
    LabelSpace((1, 2, 3), tuple(NAMES), tuple(NAMES), ((0, 0, 1), (0, 0, 2), (0, 0, 3)), 0).write("label_space.json")
    write_config("config.py")
    config = read_config("config.py")
    runner = Runner(
        model=config.model,
        work_dir="published",
        train_dataloader={"dataset": Blobs(), "batch_size": 2, "sampler": DefaultSampler(Blobs(), shuffle=False),
                          "collate_fn": {"type": "pseudo_collate"}},
        train_cfg={"type": "IterBasedTrainLoop", "max_iters": 3},
        optim_wrapper={"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 1e-3}},
        param_scheduler=[{"type": "PolyLR", "begin": 0, "end": 3, "by_epoch": False}],
        default_hooks={"checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 3},
                       "logger": {"type": "LoggerHook", "interval": 1}},
        default_scope="mmseg",
        experiment_name="published",
    )  # fmt: skip
    runner.train()
    yield folder
    os.chdir(before)


def write_config(path, **overrides):
    """The resolved config of the demo's model for three classes."""
    entry = yaml.safe_load((ROOT / "config/models.yaml").read_text())["segformer_mini"]
    entry |= {"iterations": {"tiny": 3}}
    entry["overrides"]["model"]["data_preprocessor"]["size"] = [32, 32]
    entry["overrides"]["model"]["decode_head"].update(overrides)
    experiment = Experiment(name="row", dataset="tiny", label_space="label_space.json", regime="real", schedule=1,
                            validation="val.tsv", train_seed=0, work_dir="work", real="real.tsv",
                            mask_size=32)  # fmt: skip
    Path(path).write_text(config_text(resolve(entry, experiment)))


def imported(path, sha256=None, config="config.py", names=NAMES):
    return import_weights(read_config(config), path, sha256, names)


def published():
    """What the Runner saved, all of it."""
    return torch.load("published/iter_3.pth", map_location="cpu", weights_only=False)


def test_a_runners_checkpoint_is_imported_whole(world):
    whole = published()
    assert {"meta", "state_dict", "message_hub", "optimizer", "param_schedulers"} <= whole.keys()
    assert whole["message_hub"]["log_scalars"]  # numpy arrays in mmengine's own class
    weights = imported("published/iter_3.pth")
    assert weights.keys() == whole["state_dict"].keys()
    assert all(torch.equal(weights[name], value) for name, value in whole["state_dict"].items())


def test_its_meta_tells_the_classes(world):
    assert read_checkpoint("published/iter_3.pth")[1] == NAMES  # a blank behind a name doesn't count
    with pytest.raises(InputError, match=r"class 1 is 'sea', but the data set's is 'ship'"):
        imported("published/iter_3.pth", names=["sky", "ship", "sea"])
    with pytest.raises(InputError, match="3 classes, but the data set has 2"):
        imported("published/iter_3.pth", names=NAMES[:2])


def test_older_meta_and_plain_weights_are_read(world):
    state = published()["state_dict"]
    torch.save({"meta": {"CLASSES": tuple(NAMES), "iter": 3}, "state_dict": state}, "older.pth")
    torch.save(state, "plain.pth")
    torch.save(state, "legacy.pth", _use_new_zipfile_serialization=False)
    assert read_checkpoint("older.pth")[1] == NAMES
    for name in ("older.pth", "plain.pth", "legacy.pth"):
        assert imported(name).keys() == state.keys()


def test_the_digest_is_checked(world):
    digest = files.sha256("published/iter_3.pth")
    assert imported("published/iter_3.pth", digest[:8])
    with pytest.raises(InputError, match=f"SHA-256 is {digest}, want 0123abcd"):
        imported("published/iter_3.pth", "0123abcd")


class Call:
    """Pickles as a call that writes a file when it is loaded."""

    def __init__(self, function, *arguments):
        self.called = (function, arguments)

    def __reduce__(self):
        return self.called


def through_getattr():
    """os.system by the names that mmengine's histories are pickled with: getattr(getattr, ...) reaches no module."""
    return Call(getattr, Call(getattr, dict, "fromkeys"), "__self__")


MALICIOUS = {
    "os.system": Call(os.system, "touch hacked"),
    "eval": Call(eval, "open('hacked', 'w').close()"),
    "exec in meta": Call(exec, "open('hacked', 'w').close()"),
    "open": Call(open, "hacked", "w"),
    "Path.touch": Call(Path.touch, Path("hacked")),
}


@pytest.mark.parametrize("case", MALICIOUS)
@pytest.mark.parametrize("place", ["meta", "message_hub", "state_dict"])
def test_a_malicious_pickle_is_refused_and_not_executed(world, case, place):
    whole = {"state_dict": published()["state_dict"], "meta": {}, "message_hub": {}}
    whole[place]["x"] = MALICIOUS[case]
    torch.save(whole, "malicious.pth")
    for load in (lambda: imported("malicious.pth"),
                 lambda: load_segmentor(read_config("config.py"), "malicious.pth", "cpu")):  # fmt: skip
        with pytest.raises(InputError, match=r"malicious\.pth: not only weights: .* would be executed"):
            load()
    assert not Path("hacked").exists()


def test_allowed_names_give_placeholders_only(world):
    """Getattr is in every Runner's checkpoint; here it gets nothing, whatever it is asked for."""
    whole = {"state_dict": published()["state_dict"], "hub": through_getattr()}
    torch.save(whole, "getattr.pth")
    with pytest.raises(InputError, match="dict would be executed|not only weights"):
        imported("getattr.pth")
    hub = torch.load("published/iter_3.pth", map_location="cpu", weights_only=False)["message_hub"]
    torch.save({"state_dict": whole["state_dict"], "x": hub}, "hub.pth")
    before = torch.serialization.get_safe_globals()
    read_checkpoint("hub.pth")
    assert set(torch.serialization.get_safe_globals()) == set(before)  # nothing stays allowed


def test_what_others_have_allowed_isnt(world):
    torch.save({"state_dict": published()["state_dict"], "x": Call(eval, "open('hacked', 'w').close()")}, "allowed.pth")
    with torch.serialization.safe_globals([eval]), pytest.raises(InputError, match="eval would be executed"):
        read_checkpoint("allowed.pth")
    assert not Path("hacked").exists()


def broken(change):
    """Save a changed state_dict; its path."""
    state = dict(published()["state_dict"])
    change(state)
    torch.save({"state_dict": state}, "broken.pth")
    return "broken.pth"


HEAD = "decode_head.conv_seg.weight"
WRONG = {
    "shape": (lambda state: state.update({HEAD: torch.zeros(4, 64, 1, 1)}), rf"{HEAD} \(4, 64, 1, 1\) instead of \(3"),
    "missing": (lambda state: state.pop(HEAD), f"lacks {HEAD}"),
    "unknown": (lambda state: state.update({"ema.x": torch.zeros(1)}), r"unknown to the model, ema\.x"),
    "not finite": (lambda state: state[HEAD].fill_(float("nan")), f"{HEAD} isn't finite"),
    "no tensors": (lambda state: state.update({"x": 3}), "no state_dict of tensors"),
    "empty": (lambda state: state.clear(), "no state_dict of tensors"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_weights_are_refused(world, case):
    change, message = WRONG[case]
    path = broken(change)
    for load in (lambda: imported(path), lambda: load_segmentor(read_config("config.py"), path, "cpu")):
        with pytest.raises(InputError, match=message):
            load()


def test_another_model_is_refused_in_a_few_words(world):
    write_config("wider.py", channels=32)
    with pytest.raises(InputError, match="not the weights of the config's model") as raised:
        imported("published/iter_3.pth", config="wider.py")
    assert len(str(raised.value)) < 800


def test_damaged_and_missing_files_are_refused(world):
    content = Path("published/iter_3.pth").read_bytes()
    Path("cut.pth").write_bytes(content[: len(content) // 2])
    Path("page.pth").write_text("<html>not found</html>")
    with zipfile.ZipFile("other.pth", "w") as archive:
        archive.writestr("a.txt", "hello")
    Path("pickle.pth").write_bytes(pickle.dumps([1, 2]))
    for name in ("cut.pth", "page.pth", "other.pth", "pickle.pth", "absent.pth"):
        with pytest.raises(InputError, match=rf"{name}: "):
            imported(name)
