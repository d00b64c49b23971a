"""Calls that read: every kind of query, and the other reads."""

from __future__ import annotations

from hypothesis import strategies as st
from qdrant_client import models

from tests.congruence import compare as same
from tests.congruence.data import ORDERED, SPELLED_IDS, vectors
from tests.congruence.filters import conditions, filters

LIMITS = st.sampled_from([1, 2, 3, 5, 10, 30])
FIELDS = st.sampled_from(["n", "kind", "obj", "obj.a", "arr[].a", "arr", "x", "y.x", "missing", "text"])
WITH_PAYLOAD = st.one_of(
    st.booleans(),
    st.lists(FIELDS, max_size=3),
    st.lists(FIELDS, max_size=3).map(lambda keys: models.PayloadSelectorInclude(include=keys)),
    st.lists(FIELDS, max_size=3).map(lambda keys: models.PayloadSelectorExclude(exclude=keys)),
)
THRESHOLDS = st.one_of(st.none(), st.none(), st.sampled_from([-0.51, 0.013, 0.31, 1.23, 4.1]))


def with_vectors(shape):
    """`with_vectors`, of all forms."""
    return st.one_of(st.booleans(), st.lists(st.sampled_from(shape.names), max_size=2, unique=True))


def _given(strategy, **kwargs):
    return st.fixed_dictionaries({"collection_name": st.just("c"), **strategy}, optional=kwargs)


def _calls(method, kwargs, compare):
    return kwargs.map(lambda given: same.Call(method, given, compare, index=_needed_index(given)))


def _needed_index(given):
    query = given.get("query")
    order_by = query.order_by if isinstance(query, models.OrderByQuery) else given.get("order_by")
    return given.get("key") if order_by is None else order_by.key


# Queries --------------------------------------------------------------------------------------------------------------


def _inputs(shape, name):
    """A vector, or the id of a point that may not be there."""
    return st.one_of(vectors(shape, name), vectors(shape, name), SPELLED_IDS)


def _pairs(shape, name):
    inputs = _inputs(shape, name)
    return st.builds(lambda one, other: models.ContextPair(positive=one, negative=other), inputs, inputs)


def _feedback(shape, name):
    inputs = _inputs(shape, name)
    weights = st.sampled_from([0.0, 0.5, 1.0])
    items = st.builds(
        lambda v, score: models.FeedbackItem(example=v, score=score), inputs, st.sampled_from([-1.0, 0.2, 0.9])
    )
    return st.builds(
        lambda target, given, a, b, c: models.RelevanceFeedbackQuery(
            relevance_feedback=models.RelevanceFeedbackInput(
                target=target,
                feedback=given,
                strategy=models.NaiveFeedbackStrategy(naive=models.NaiveFeedbackStrategyParams(a=a, b=b, c=c)),
            )
        ),
        inputs,
        st.lists(items, min_size=1, max_size=3),
        weights,
        weights,
        weights,
    )


def scorers(shape, name):
    """Queries on one vector that make scores, by kind."""
    inputs = _inputs(shape, name)
    examples = st.one_of(st.none(), st.lists(inputs, max_size=3))
    liked = st.lists(inputs, min_size=1, max_size=3)  # local mode refuses none only where there are points
    strategies = st.sampled_from([None, *models.RecommendStrategy])
    kinds = {
        "nearest": st.one_of(inputs, inputs.map(lambda given: models.NearestQuery(nearest=given))),
        "recommend": st.builds(
            lambda liked, disliked, strategy: models.RecommendQuery(
                recommend=models.RecommendInput(positive=liked, negative=disliked, strategy=strategy)
            ),
            liked,
            examples,
            strategies,
        ),
        "discover": st.builds(
            lambda target, context: models.DiscoverQuery(discover=models.DiscoverInput(target=target, context=context)),
            inputs,
            st.one_of(st.lists(_pairs(shape, name), max_size=2), _pairs(shape, name)),
        ),
        "context": st.one_of(st.lists(_pairs(shape, name), min_size=1, max_size=2), _pairs(shape, name)).map(
            lambda context: models.ContextQuery(context=context)
        ),
    }
    if name not in shape.sparse:
        kinds["mmr"] = st.builds(
            lambda given, diversity, candidates: models.NearestQuery(
                nearest=given, mmr=models.Mmr(diversity=diversity, candidates_limit=candidates)
            ),
            inputs,
            st.sampled_from([None, 0.0, 0.3, 0.77, 1.0]),
            st.sampled_from([None, 0, 2, 5, 50]),
        )
    if name not in shape.sparse and not shape.is_multi(name):
        kinds["feedback"] = _feedback(shape, name)
    return kinds


def _expressions(names):
    constants = st.sampled_from([-1.5, 0.0, 0.5, 2.0])
    leaf = st.one_of(
        constants,
        st.sampled_from(["$score", "$score", "n", "f", "obj.b", "$score[1]"]),
        conditions(names)["match_value"],
        conditions(names)["range"],
        st.just(
            models.GeoDistance(geo_distance=models.GeoDistanceParams(origin=models.GeoPoint(lat=1, lon=1), to="place"))
        ),
        st.just(models.DatetimeExpression(datetime="2024-01-01T00:00:00Z")),
        st.just(models.DatetimeKeyExpression(datetime_key="at")),
    )

    def decay(kind, field):
        return lambda x, target, scale, midpoint: kind(
            **{field: models.DecayParamsExpression(x=x, target=target, scale=scale, midpoint=midpoint)}
        )

    def extend(inner):
        several = st.lists(inner, min_size=1, max_size=3)
        decayed = (
            inner,
            st.one_of(st.none(), constants),
            st.sampled_from([None, 0.5, 3.0]),
            st.sampled_from([None, 0.25]),
        )
        return st.one_of(
            several.map(lambda v: models.SumExpression(sum=v)),
            several.map(lambda v: models.MultExpression(mult=v)),
            several.map(lambda v: models.MaxExpression(max=v)),
            several.map(lambda v: models.MinExpression(min=v)),
            inner.map(lambda v: models.NegExpression(neg=v)),
            inner.map(lambda v: models.AbsExpression(abs=v)),
            inner.map(lambda v: models.SqrtExpression(sqrt=models.AbsExpression(abs=v))),
            inner.map(lambda v: models.ExpExpression(exp=v)),
            inner.map(lambda v: models.LnExpression(ln=v)),
            inner.map(lambda v: models.Log10Expression(log10=v)),
            inner.map(lambda v: models.AcoshExpression(acosh=v)),
            st.builds(
                lambda a, b, default: models.DivExpression(
                    div=models.DivParams(left=a, right=b, by_zero_default=default)
                ),
                inner,
                inner,
                st.sampled_from([None, 1.0]),
            ),
            st.builds(
                lambda a, b: models.PowExpression(pow=models.PowParams(base=a, exponent=b)),
                inner,
                st.sampled_from([0.0, 2.0, 3.0]),
            ),
            st.builds(decay(models.LinDecayExpression, "lin_decay"), *decayed),
            st.builds(decay(models.ExpDecayExpression, "exp_decay"), *decayed),
            st.builds(decay(models.GaussDecayExpression, "gauss_decay"), *decayed),
        )

    return st.recursive(leaf, extend, max_leaves=4)


def formulas(names):
    """Score formulas."""
    defaults = {"n": 1, "f": 0.5, "obj.b": 2, "place": {"lat": 0.5, "lon": 0.5}, "at": "2024-01-01T12:00:00Z"}
    # Without defaults most formulas fail, as most payloads lack a field.
    given = st.sampled_from([None, {}, defaults, defaults, defaults, defaults])
    return st.builds(
        lambda formula, known: models.FormulaQuery(formula=formula, defaults=known), _expressions(names), given
    )


def _fusions(count):
    weights = st.one_of(st.none(), st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=count, max_size=count))
    return st.one_of(
        st.sampled_from([models.FusionQuery(fusion=fusion) for fusion in models.Fusion]),
        st.builds(
            lambda k, given: models.RrfQuery(rrf=models.Rrf(k=k, weights=given)),
            st.sampled_from([None, 1, 60]),
            weights,
        ),
    )


def order_bys(keys=ORDERED):
    """Orders by a payload value."""
    return st.builds(
        lambda key, direction, start: models.OrderBy(
            key=key, direction=direction, start_from=start if key != "at" else None
        ),
        st.sampled_from(keys),
        st.sampled_from([None, *models.Direction]),
        st.one_of(st.none(), st.sampled_from([-1, 0, 1, 0.5])),
    )


@st.composite
def _prefetches(draw, shape, depth=2):
    """One prefetch; on its deepest level a vector's, as ties there would change what is above."""
    name = draw(st.sampled_from(shape.names))
    kinds = scorers(shape, name)
    own_filter = draw(st.one_of(st.none(), filters(shape.names)))
    nested = None
    query = draw(st.one_of(*[kinds[kind] for kind in ("nearest", "recommend", "discover")]))
    using = name or None
    if depth and draw(st.booleans()):
        nested = draw(st.lists(_prefetches(shape, depth - 1), min_size=1, max_size=2))
        if draw(st.booleans()):
            query, using = draw(_fusions(len(nested))), None
    return models.Prefetch(
        prefetch=nested,
        query=query,
        using=using,
        filter=own_filter,
        score_threshold=None if using is None else draw(THRESHOLDS),
        limit=draw(st.sampled_from([None, 2, 5, 20])),
    )


@st.composite
def query_arguments(draw, shape):
    """Arguments of `query_points`."""
    name = draw(st.sampled_from(shape.names))
    kinds = scorers(shape, name)
    kind = draw(st.sampled_from([*kinds, *kinds, "fusion", "fusion", "rescore", "formula", "order_by", "nothing"]))
    given = {"collection_name": "c", "limit": draw(LIMITS)}
    if kind == "fusion":
        given["prefetch"] = draw(st.lists(_prefetches(shape), min_size=1, max_size=3))
        given["query"] = draw(_fusions(len(given["prefetch"])))
    elif kind == "formula":
        given["prefetch"] = draw(st.one_of(_prefetches(shape), st.lists(_prefetches(shape), min_size=1, max_size=2)))
        given["query"] = draw(formulas(shape.names))
    elif kind == "rescore":
        given["prefetch"] = draw(_prefetches(shape))
        given["query"] = draw(kinds["nearest"])
    elif kind == "order_by":
        given["query"] = models.OrderByQuery(order_by=draw(order_bys()))
    elif kind != "nothing":
        given["query"] = draw(kinds[kind])
    if kind in kinds or kind == "rescore":
        given["using"] = name or None
        if kind != "feedback" and draw(st.integers(0, 4)) == 0:  # local mode does not look elsewhere for feedback
            given["lookup_from"] = models.LookupLocation(collection="other", vector=name or None)
    optional = {
        "offset": st.sampled_from([0, 1, 3]),
        "query_filter": filters(shape.names),
        "with_payload": WITH_PAYLOAD,
        "with_vectors": with_vectors(shape),
    }
    if kind not in ("order_by", "nothing"):
        optional["score_threshold"] = THRESHOLDS
    given.update(draw(st.fixed_dictionaries({}, optional=optional)))
    return given


def query_calls(shape):
    """`query_points`."""
    return query_arguments(shape).map(_query_call)


def _query_call(given):
    index = _needed_index(given)
    return same.Call("query_points", given, same.ranked if index is None else same.ordered_points, index=index)


def batch_calls(shape):
    """`query_batch_points`."""
    several = st.lists(query_arguments(shape).filter(lambda given: _needed_index(given) is None), max_size=3)
    return several.map(lambda given: same.Call("query_batch_points", _batch(given), same.ranked_batches))


def _batch(given):
    renamed = {"query_filter": "filter", "with_vectors": "with_vector"}
    requests = [
        models.QueryRequest(**{renamed.get(key, key): value for key, value in one.items() if key != "collection_name"})
        for one in given
    ]
    return {"collection_name": "c", "requests": requests}


@st.composite
def group_calls(draw, shape):
    """`query_points_groups`."""
    given = draw(query_arguments(shape))
    for key in ("offset", "lookup_from"):
        given.pop(key, None)
    given["group_by"] = draw(st.sampled_from(["n", "kind", "obj.a", "arr[].a", "x", "uid", "f", "missing"]))
    given["group_size"] = draw(st.sampled_from([1, 2, 3]))
    lookups = [None, "other", models.WithLookup(collection="other", with_payload=["n"], with_vectors=True)]
    given["with_lookup"] = draw(st.sampled_from(lookups))
    return same.Call("query_points_groups", given, same.grouped, index=_needed_index(given))


# Other reads ----------------------------------------------------------------------------------------------------------


def reads(shape):
    """Calls that read without a query."""
    filtered = filters(shape.names)
    selectors = {"with_payload": WITH_PAYLOAD, "with_vectors": with_vectors(shape)}
    matrix = {"limit": st.sampled_from([1, 3, 30]), "sample": st.just(30)}
    using = {"using": st.sampled_from(shape.names).map(lambda name: name or None)}
    return st.one_of(
        _calls("retrieve", _given({"ids": st.lists(SPELLED_IDS, max_size=5)}, **selectors), same.exactly),
        _calls(
            "scroll",
            _given({"limit": LIMITS}, scroll_filter=filtered, offset=SPELLED_IDS, **selectors),
            same.exactly,
        ),
        _calls(
            "scroll",
            _given({"limit": LIMITS, "order_by": order_bys()}, scroll_filter=filtered, **selectors),
            same.ordered_page,
        ),
        _calls("count", _given({}, count_filter=filtered), same.exactly),
        _calls(
            "facet",
            _given(
                {"key": st.sampled_from(["n", "kind", "ok", "uid", "obj.n", "arr[].kind"]), "limit": LIMITS},
                facet_filter=filtered,
            ),
            same.exactly,
        ),
        _calls(
            "query_points",
            _given(
                {"query": st.just(models.SampleQuery(sample=models.Sample.RANDOM)), "limit": LIMITS},
                query_filter=filtered,
                **selectors,
            ),
            same.sampled,
        ),
        _calls("search_matrix_pairs", _given({**matrix, **using}, query_filter=filtered), same.matrix_pairs),
        _calls("search_matrix_offsets", _given({**matrix, **using}, query_filter=filtered), same.matrix_offsets),
        _calls("get_collection", _given({}), same.described),
    )


def filter_counts(shape):
    """Which points a filter selects."""
    return _calls(
        "scroll",
        _given({"scroll_filter": filters(shape.names), "limit": st.just(100), "with_payload": st.just(False)}),
        same.exactly,
    )
