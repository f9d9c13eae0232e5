import pandas as pd
import polars as pl
import pytest
import torch
from tests.features.conftest import make_space, same

import retrank as rr
from retrank.core.errors import ConfigError, DataError, NotFittedError, RetrankWarning

F = rr.features


def test_schema_describes_what_transform_returns(space, table):
    batch = space.fit(table).transform(table)
    assert list(space.schema) == list(batch.names) == space.names
    for name, schema in space.schema.items():
        column = batch[name]
        assert schema.name == name
        assert schema.is_jagged == isinstance(column, rr.Jagged)
        values = column.values if schema.is_jagged else column
        assert len(column) == table.height
        if schema.kind == "number":
            assert values.dtype == torch.float32
            assert values.shape == ((table.height,) if schema.width == 1 else (table.height, schema.width))
        else:
            assert values.dtype == torch.int64
            assert 1 <= values.min() <= values.max() < schema.num_ids


def test_one_row_is_transformed_as_in_the_table(space, table):
    batch = space.fit(table).transform(table)
    for row in (0, 1, 250, 399):
        assert same(space.transform(table[row : row + 1]), batch[row : row + 1])


def test_no_rows_keep_their_types(space, table):
    batch = space.fit(table).transform(table[:0])
    assert len(batch) == 0
    assert same(batch, space.transform(table)[:0])


def test_any_data_frame_and_file_is_a_table(tmp_path, space, table):
    expected = space.fit(table).transform(table)
    table.write_parquet(tmp_path / "part.parquet")
    tables = [table.lazy(), table.to_arrow(), tmp_path / "part.parquet", str(tmp_path / "*.parquet")]
    for other in tables:
        assert same(make_space().fit(other).transform(other), expected)
    few = ["user", "price", "label"]
    names = ["user", "price", "bins", "user_x_bins"]
    assert same(
        space.transform(pd.DataFrame(table.select(few).to_dict(as_series=False)), names), expected.select(names)
    )


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shards_teach_what_the_table_teaches(table, count):
    whole = make_space().fit(table)
    space = make_space()
    parts = [space.summarize(table, shard=(index, count)) for index in range(count)]
    for order in (parts, parts[::-1]):
        sharded = make_space().fit_summaries(order)
        assert sharded.schema == whole.schema
        batch, expected = sharded.transform(table), whole.transform(table)
        numbers = [name for name in batch.names if name != "normal"]
        assert same(batch.select(numbers), expected.select(numbers))
        torch.testing.assert_close(batch["normal"], expected["normal"], rtol=1e-6, atol=1e-6)
        assert repr(sharded) == repr(whole)


def test_a_streamed_fit_is_the_fit(monkeypatch, tmp_path, table):
    table.write_parquet(tmp_path / "t.parquet")
    whole = make_space().fit(table)
    monkeypatch.setattr("retrank.features.fitting._ROWS", 37)
    streamed = make_space().fit(tmp_path / "t.parquet")
    assert streamed.schema == whole.schema
    names = [name for name in whole.names if name != "normal"]
    assert same(streamed.transform(table, names), whole.transform(table, names))


def test_errors_count_rows_over_pieces_and_shards(monkeypatch, table):
    monkeypatch.setattr("retrank.features.fitting._ROWS", 10)
    price = table["price"].to_list()
    price[333] = None
    broken = table.with_columns(price=pl.Series(price))
    with pytest.raises(DataError, match=r"column 'price', row 333"):
        make_space().fit(broken)
    with pytest.raises(DataError, match=r"column 'price', row 333"):
        make_space().summarize(broken, shard=(3, 4))


def test_only_the_columns_of_the_features_are_needed(space, table):
    space.fit(table)
    batch = space.transform(table.select("price"), ["bins", "normal"])
    assert batch.names == ("bins", "normal")
    assert space.columns(["user_x_bins", "words", "user"]) == ["user", "price", "words"]
    assert same(batch, space.transform(table, ["bins", "normal"]))
    with pytest.raises(DataError, match=r"a column 'user', got the columns \['users'\]; did you mean 'users'"):
        space.transform(table.select(users="user"), ["user"])
    with pytest.raises(DataError, match="a column 'film'"):
        make_space().fit(table.drop("film"))


def test_unknown_names_list_what_exists(space, table):
    space.fit(table)
    with pytest.raises(ConfigError, match=r"'user'.*'three'.*got 'usr'"):
        space.transform(table, ["usr"])
    with pytest.raises(ConfigError, match="got 'usr'"):
        space.vocabulary("usr")
    with pytest.raises(ConfigError, match="a list of names"):
        space.transform(table, "user")
    with pytest.raises(ConfigError, match=r"'price': expected a feature with a vocabulary"):
        space.vocabulary("price")


def test_before_fit(tmp_path, space, table):
    assert not space.is_fitted
    for call in (
        lambda: space.transform(table),
        lambda: space.schema,
        lambda: space.vocabulary("user"),
        lambda: space.loader(table, 8),
        lambda: space.grow(table),
        lambda: space.save(tmp_path / "s"),
        lambda: space.catalogue(table, key="film"),
    ):
        with pytest.raises(NotFittedError):
            call()
    assert "not fitted" in repr(space)


def test_kinds_are_copied():
    kind = F.Categorical()
    space = rr.FeatureSpace({"a": kind, "b": kind}).fit(pl.DataFrame({"a": ["x"], "b": [1]}))
    assert space.vocabulary("a").keys.to_list() == ["x"]
    assert space.vocabulary("b").keys.to_list() == [1]
    with pytest.raises(NotFittedError):
        kind.vocabulary  # noqa: B018


def test_a_fit_that_fails_changes_nothing():
    table = pl.DataFrame({"a": ["x"], "b": ["y"]})
    space = rr.FeatureSpace({"a": F.Categorical(), "b": F.Categorical()}).fit(table)
    with pytest.raises(DataError):
        space.fit(pl.DataFrame({"a": ["z"], "b": [None]}, schema_overrides={"b": pl.String}))
    assert space.vocabulary("a").keys.to_list() == ["x"]
    assert space.transform(table)["a"].tolist() == [2]


def test_fitting_again_starts_anew(space, table):
    space.fit(table)
    assert same(space.fit(table[:50]).transform(table[:50]), make_space().fit(table[:50]).transform(table[:50]))


def test_bad_spaces_are_refused(table):
    with pytest.raises(ConfigError, match="at least one feature"):
        rr.FeatureSpace({})
    with pytest.raises(ConfigError, match=r"feature 'a'.*build it"):
        rr.FeatureSpace({"a": F.Categorical})
    with pytest.raises(DataError, match="at least one row"):
        make_space().fit(table[:0])


def test_grow_adds_keys_and_changes_nothing_else(space, table):
    before = space.fit(table).transform(table)
    sizes = {name: schema.num_ids for name, schema in space.schema.items()}
    rows = table[:3].with_columns(user=pl.Series([100, 100, 200]))
    assert space.grow(rows, ["user"]) is space
    assert same(space.transform(table), before)
    assert space.transform(rows, ["user"])["user"].tolist() == [sizes["user"], sizes["user"], sizes["user"] + 1]
    grown = {name: schema.num_ids for name, schema in space.schema.items()}
    assert grown == sizes | {"user": sizes["user"] + 2}
    with pytest.raises(ConfigError, match=r"'bins': expected a feature with a vocabulary"):
        space.grow(rows, ["bins"])
    with pytest.raises(DataError, match="column 'user'.*integer keys"):
        space.grow(rows.with_columns(pl.col("user").cast(pl.String)), ["user"])
    everything = table.with_columns(tags=pl.Series([["new"]] * table.height))
    with pytest.warns(RetrankWarning, match="feature 'words'.*max_size=28 leaves"):
        assert space.grow(everything).vocabulary("tags").keys.to_list()[-1] == "new"


def test_loader_gives_the_transformed_rows(space, table):
    expected = space.fit(table).transform(table)
    names = ["user", "tags", "user_x_bins", "label"]
    for streaming in (False, True):
        loader = space.loader(table, 64, streaming=streaming)
        assert (len(loader), loader.num_rows, loader.batch_size) == (7, 400, 64)
        assert same(rr.Batch.concat(list(loader)), expected)
        some = space.loader(table, 64, streaming=streaming, features=names, drop_last=True)
        assert same(rr.Batch.concat(list(some)), expected.select(names)[:384])
        shuffled = [list(space.loader(table, 64, shuffle=True, seed=5, streaming=streaming)) for _ in range(2)]
        assert same(rr.Batch.concat(shuffled[0]), rr.Batch.concat(shuffled[1]))
        prices = rr.Batch.concat(shuffled[0])["price"]
        assert prices.tolist() != expected["price"].tolist()
        assert prices.sort().values.tolist() == expected["price"].sort().values.tolist()
        with pytest.raises(DataError, match="'film'"):
            space.loader(table.drop("film"), 64, streaming=streaming)
        with pytest.raises(ConfigError, match="'usr'"):
            space.loader(table, 64, streaming=streaming, features=["usr"])


def test_repr_is_a_table(space, table):
    lines = repr(space.fit(table)).splitlines()
    assert lines[0] == "FeatureSpace, fitted on 400 rows"
    assert lines[1].split() == ["feature", "column", "emits", "kind"]
    assert len(lines) == 2 + len(space.names)
    assert "film/title   film    ids, " in lines[4]
    assert "Categorical(min_count=2, max_size=40, column='film')" in lines[4]
    assert lines[-1].split()[:4] == ["three", "ids,", "11", "Cross('hour',"]
    assert "vector" in lines[14]
    assert "numbers, 3" in lines[14]
