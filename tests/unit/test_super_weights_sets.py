"""Sets of weights of one row or column that matter together."""

import math
from dataclasses import replace

from live_models import own_text, plant, tiny

from weight_atlas.live.anatomy import anatomy
from weight_atlas.super_weights.sets import Search, grown


def test_weights_that_matter_together_are_found_as_the_fewest_of_their_row():
    live = anatomy(tiny("llama", sharp=True))
    for column in range(20, 32):
        plant(live, 1, 9, column, write=25.0)
    line, bystander = live.projections[1].coordinate(9, None), live.projections[3].coordinate(2, None)
    search = Search(live, own_text(live, windows=6, length=16), ratio=1.5, seed=0, batch_size=16)
    (found,) = grown(search, [line, bystander], [])
    assert found.line == line and {place.col for place in found.places} <= set(range(20, 32)) and not found.whole
    assert 2 <= len(found.places) <= 12 and found.ratio >= 1.5 > math.exp(found.single)
    assert found.delta_nll >= 0.5 * found.line_delta_nll and found.exceed_share == 0 and found.draws == 40
    # A row whose harm a known weight explains is not taken apart.
    assert grown(search, [line], [live.projections[1].coordinate(9, 25)]) == []


def test_one_weight_of_a_row_is_a_set_of_one():
    live = anatomy(tiny("llama", sharp=True))
    place = plant(live, 1, 9, 21)
    search = Search(live, own_text(live, windows=6, length=16), ratio=1.5, seed=0, batch_size=16)
    (found,) = grown(search, [replace(place, col=None)], [])
    assert found.places == (place,)
