"""Making a plan: from a cell's step to the phases of one step of the loop, and what they keep."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from torch import Tensor

from recurra.cells import Cell
from recurra.errors import UntraceableCellError
from recurra.kernels.graph import DEAR, REDUCTIONS, Graph
from recurra.kernels.plan import Flush, Options, Phase, Place, Places, Plan, Pointwise, Product
from recurra.kernels.trace import Recording, record

Tensors = tuple[Tensor, ...]
Known = dict[int, Places]


@dataclass
class _Traced:
    """The nodes of one of a cell's functions and of its gradients."""

    outputs: list[int]
    gradients: dict[str, int]


@dataclass
class _Storage:
    """Places for what the forward pass keeps."""

    kept: dict[int, Place] = field(default_factory=dict)
    free_gates: list[int] = field(default_factory=list)
    blocks: int = 0
    numbers: int = 0
    output_blocks: int = 0


@cache
def plan_for(cell: Cell, options: Options) -> Plan:
    """The plan of a cell's kernels, made once.

    Raises:
        UntraceableCellError: the cell's step uses an operation outside the closed set.
    """
    return _Planner(cell, options).plan()


class _Planner:
    def __init__(self, cell: Cell, options: Options) -> None:
        self.cell, self.options = cell, options
        self.graph = Graph()
        self.gates, self.late = len(cell.gates), len(cell.late_gates)
        self.early = self.gates - self.late if cell.recurrent else 0
        self.state_unit = "hidden" if cell.output is None else "output"
        self._trace()
        self.folded = self._find_folded()
        unfolded = tuple(k for k in range(self.gates) if k not in self.folded)
        self.input_order = unfolded + self.folded
        self.hidden_order = self.folded + unfolded if cell.recurrent else ()
        self.is_row_wise = self._reduces(self._all_outputs())
        self.storage = _Storage()
        self.is_simple = not self.late and not self.is_row_wise
        # whether the loop's products of x and of h begin with their biases
        self.adds_biases = options.has_input and not options.is_step

    # -- tracing --------------------------------------------------------------------------------

    def _trace(self) -> None:
        cell, graph = self.cell, self.graph
        x = [f"x{k}" for k in range(self.gates)]
        r = [f"r{k}" for k in range(self.gates)] if cell.recurrent else []
        s = [f"s{k}" for k in range(len(cell.states))]
        v = [f"v{k}" for k in range(len(cell.vectors))]
        z = [f"z{k}" for k, on in enumerate(self.options.zoneout) if on]
        inner = [n for n in z if not (cell.output and n == "z0")]
        arrivals = {f"d{k}": self._arrival(k) for k in range(len(cell.states))}
        if cell.output is not None:
            arrivals["d0"] = graph.input("q")
        names = [*x, *r, *s, *v, *inner]
        recording = record(self._main, names, inner, cell.name)
        self.main = self._put(recording, arrivals)
        if cell.output is not None and any(
            e.op == "input" and e.name == "s0" and _is_used(recording, i)
            for i, e in enumerate(recording.entries)
        ):
            raise UntraceableCellError(
                f"cell {cell.name!r} has an output product, and its step uses {cell.states[0]!r}, "
                "which is not of the hidden layer's size; use from_hidden alone"
            )
        mask = ["m"] if self.options.has_mask else []
        self.late_part = self.out_part = None
        if self.late:
            names = [*x, *r[: self.early], *s, *mask]
            self.late_part = self._put(
                record(self._late, names, mask, cell.name), {"d0": graph.input("q")}
            )
        if cell.output is not None:
            names = ["p", *(["s0", "z0"] if "z0" in z else [])]
            constant = [n for n in names if n == "z0"]
            self.out_part = self._put(
                record(self._out, names, constant, cell.name), {"d0": self._arrival(0)}
            )

    def _arrival(self, k: int) -> int:
        """The gradient of state k as it reaches a step: what was carried, and the sequence's."""
        carried = self.graph.input(f"carry{k}")
        if k and not self.options.all_states:
            return carried
        return self.graph.add("add", carried, self.graph.input(f"sequence{k}"))

    def _put(self, recording: Recording, bindings: Mapping[str, int]) -> _Traced:
        return _Traced(*recording.put(self.graph, bindings))

    def _main(self, *values: Tensor) -> Tensors:
        cell, states = self.cell, len(self.cell.states)
        take = iter(values)
        x = tuple(next(take) for _ in range(self.gates))
        r = tuple(next(take) for _ in range(self.gates if cell.recurrent else 0))
        s = tuple(next(take) for _ in range(states))
        v = tuple(next(take) for _ in cell.vectors)
        new = cell.advance(x, r, s, v)
        zoned = list(self.options.zoneout)
        if cell.output is not None:
            zoned[0] = False
        z = [next(take) if on else None for on in zoned]
        return tuple(_mix(n, o, k) for n, o, k in zip(new, s, z, strict=True))

    def _late(self, *values: Tensor) -> Tensors:
        x, rest = values[: self.gates], values[self.gates :]
        states = rest[self.early : self.early + len(self.cell.states)]
        operand = self.cell.late_operand(x, rest[: self.early], states)  # type: ignore[misc]
        return (operand * values[-1] if self.options.has_mask else operand,)

    def _out(self, pre: Tensor, *kept: Tensor) -> Tensors:
        new = self.cell.output(pre)  # type: ignore[misc]
        return (_mix(new, *kept) if kept else new,)

    # -- what the graphs tell ---------------------------------------------------------------------

    def _parts(self) -> list[_Traced]:
        return [p for p in (self.late_part, self.main, self.out_part) if p is not None]

    def _all_outputs(self) -> list[int]:
        return [n for part in self._parts() for n in (*part.outputs, *part.gradients.values())]

    def _reduces(self, outputs: Iterable[int]) -> bool:
        return any(self.graph.nodes[n].op in REDUCTIONS for n in self.graph.needed(outputs))

    def _find_folded(self) -> tuple[int, ...]:
        """Gates whose from_input and from_hidden are only ever used as their sum."""
        if not self.cell.recurrent:
            return ()
        graph, among = self.graph, self.graph.needed(self._all_outputs())
        folded = []
        for k in range(self.gates):
            x, r = graph.input(f"x{k}"), graph.input(f"r{k}")
            users = graph.users(x, among)
            if users == graph.users(r, among) == {graph.add("add", x, r)}:
                folded.append(k)
        # the early and the late gates' gradients must each be in one piece
        return () if self.late and len(folded) != self.gates else tuple(folded)

    def _sum(self, k: int) -> int:
        return self.graph.add("add", self.graph.input(f"x{k}"), self.graph.input(f"r{k}"))

    def _gradient_block(self, k: int, of: str) -> int:
        if of == "x":
            return self.input_order.index(k)
        return len(self.input_order) - len(self.folded) + self.hidden_order.index(k)

    # -- what is kept -----------------------------------------------------------------------------

    def _known_backward(self) -> Known:
        """Nodes that the backward pass finds in memory without anything being kept for it."""
        graph, cell = self.graph, self.cell
        known: Known = {
            graph.input(f"s{k}"): (Place(f"previous{k}"),) for k in range(len(cell.states))
        }
        known |= {graph.input(f"v{k}"): (Place("vectors", k),) for k in range(len(cell.vectors))}
        for k in range(len(cell.states)):
            known[graph.input(f"s{k}")] = (Place(f"previous{k}"),)
            known[graph.input(f"z{k}")] = (Place(f"zoneout{k}"),)
            known[graph.input(f"carry{k}")] = (Place(f"carry{k}"),)
            known[graph.input(f"sequence{k}")] = (Place(f"sequence{k}"),)
        known[graph.input("m")] = (Place("mask"),)
        known[graph.input("q")] = (Place("tile"),)
        for k, node in enumerate(self.main.outputs):
            place = Place("inner") if cell.output is not None and k == 0 else Place(f"state{k}")
            known.setdefault(node, (place,))
        if self.late_part is not None:
            known.setdefault(self.late_part.outputs[0], (Place("late_operand"),))
        return known

    def _keep(self, part: _Traced, known: Mapping[int, Places]) -> None:
        """Choose what the forward pass keeps so that a part's gradients can be computed."""
        graph, storage = self.graph, self.storage
        inputs = [i for i, n in enumerate(graph.nodes) if n.op == "input"]
        arriving = [i for i in inputs if graph.nodes[i].name[:2] in ("ca", "se", "q")]
        depends, moving = graph.depends_on(inputs), graph.depends_on(arriving)
        folded = {self._sum(k): k for k in self.folded}
        stack, seen = list(part.gradients.values()), set()
        keep = []
        while stack:
            node = stack.pop()
            if node in seen or node in known or node in storage.kept or node not in depends:
                continue
            seen.add(node)
            if node not in moving and (node in folded or self._is_dear(node, known)):
                keep.append(node)
            else:
                stack.extend(graph.nodes[node].args)
        for node, source in sorted(self._further_on(part, known, keep, depends - moving).items()):
            storage.kept[node] = self._find_place(node, source, folded, part is self.out_part)

    def _further_on(
        self, part: _Traced, known: Mapping[int, Places], keep: list[int], can_keep: set[int]
    ) -> dict[int, int]:
        """What to keep where a value is only used to make another, with numbers of the row.

        The gradients of a normalised row ask for its distance from the mean, and neither for the
        row nor for its mean. Each node comes with the one in whose place it is kept.
        """
        graph, targets = self.graph, [*part.gradients.values()]
        available = {*known, *self.storage.kept}
        computed = set(graph.needed(targets, available.union(keep))) - available.union(keep)
        found = {}
        for source in keep:
            node = source
            while node not in targets and len(users := graph.users(node, computed)) == 1:
                (user,) = users
                numbers = {a for a in graph.nodes[user].args if a != node}
                are_of_row = all(map(graph.is_row, numbers)) and numbers & can_keep
                if user not in can_keep or not are_of_row:
                    break
                node = user
            found[node] = source
        needed = graph.needed(targets, available.union(found))
        return {node: source for node, source in found.items() if node in needed}

    def _is_dear(self, node: int, known: Mapping[int, Places]) -> bool:
        found = self.graph.nodes[node]
        if found.op in REDUCTIONS or found.op == "input":
            return True
        is_one_away = all(a in known for a in found.args)
        return found.op in DEAR and not (len(found.args) == 1 and is_one_away)

    def _find_place(
        self, node: int, source: int, folded: Mapping[int, int], is_output: bool
    ) -> Place:
        storage, found = self.storage, self.graph.nodes[source]
        if self.graph.is_row(node):
            storage.numbers += 1
            return Place("numbers", storage.numbers - 1)
        if is_output:
            storage.output_blocks += 1
            return Place("saved_output", storage.output_blocks - 1)
        if source in folded:
            return self._take_gate(folded[source])
        if found.op == "input" and found.name[0] == "x":
            return self._take_gate(int(found.name[1:]))
        if storage.free_gates:
            return Place("gates", storage.free_gates.pop(0))
        storage.blocks += 1
        return Place("saved", storage.blocks - 1)

    def _take_gate(self, k: int) -> Place:
        if k in self.storage.free_gates:
            self.storage.free_gates.remove(k)
        return Place("gates", k)

    def _reserve_gates(self, known: Mapping[int, Places]) -> None:
        """Keep first what must stay where it is, then open the other gates' places to the rest."""
        if not self.options.needs_gradient:
            return
        for part in self._parts():
            self._keep(part, known)
        if not self.is_simple:
            return
        nodes, storage = self.graph.nodes, self.storage
        fixed = {p.block for p in storage.kept.values() if p.buffer == "gates"}
        free = [k for k in range(self.gates) if k not in fixed]
        moved, storage.blocks = dict(storage.kept), 0
        for node, place in storage.kept.items():
            if place.buffer == "saved":
                is_input = nodes[node].op == "input"
                if free and not is_input:
                    moved[node] = Place("gates", free.pop(0))
                else:
                    moved[node] = Place("saved", storage.blocks)
                    storage.blocks += 1
        storage.kept = moved

    # -- the phases -------------------------------------------------------------------------------

    def plan(self) -> Plan:
        known = self._known_backward()
        self._reserve_gates(known)
        collected = self._collect_places()
        forward = _with_joins(self._forward(collected), is_forward=True)
        backward: tuple[Phase, ...] = ()
        if self.options.needs_gradient:
            known |= {n: (p,) for n, p in self.storage.kept.items()}
            backward = _with_joins(self._backward(known), is_forward=False)
        return Plan(
            cell=self.cell,
            options=self.options,
            graph=self.graph,
            forward=forward,
            backward=backward,
            folded=self.folded,
            input_order=self.input_order,
            hidden_order=self.hidden_order,
            saved_blocks=self.storage.blocks,
            saved_numbers=self.storage.numbers,
            saved_output_blocks=self.storage.output_blocks,
            state_unit=self.state_unit,
        )

    def _collect_places(self) -> dict[int, Place]:
        """Where the early product's results wait if another phase comes before the step."""
        places: dict[int, Place] = {}
        if not self.late:
            return places
        for k in range(self.early):
            node = self._sum(k) if k in self.folded else self.graph.input(f"r{k}")
            if node not in self.storage.kept:
                if k in self.folded:
                    places[node] = Place("gates", k)
                else:
                    places[node] = Place("saved", self.storage.blocks)
                    self.storage.blocks += 1
            else:
                places[node] = self.storage.kept[node]
        return places

    def _known_forward(self) -> Known:
        graph, cell = self.graph, self.cell
        known: Known = {graph.input(f"x{k}"): self._input_places(k) for k in range(self.gates)}
        known |= {graph.input(f"v{k}"): (Place("vectors", k),) for k in range(len(cell.vectors))}
        for k in range(len(cell.states)):
            known[graph.input(f"s{k}")] = (Place(f"previous{k}"),)
            known[graph.input(f"z{k}")] = (Place(f"zoneout{k}"),)
        known[graph.input("m")] = (Place("mask"),)
        known[graph.input("p")] = (Place("tile"), Place("bias_output"))
        return known

    def _input_places(self, k: int) -> Places:
        return (Place("gates", k), *((Place("bias_input", k),) if self.options.is_step else ()))

    def _from_tile(self, gates: Iterable[int]) -> Known:
        """from_hidden as the product left it, and its bias, if that is in no sum yet."""
        found: Known = {}
        for i, k in enumerate(gates):
            bias = () if self._has_bias(k) else (Place("bias_hidden", k),)
            found[self.graph.input(f"r{k}")] = (Place("tile", i), *bias)
        return found

    def _has_bias(self, k: int) -> bool:
        """Whether gate k's b_hh is in the early product's sums, or came in with the input's."""
        if self.adds_biases:
            return k < self.early
        return k in self.folded and not self.options.is_step

    def _forward(self, collected: Mapping[int, Place]) -> list[Phase]:
        phases: list[Phase] = []
        known, unit = self._known_forward(), self.state_unit
        operand = "previous0"
        if self.options.has_input:
            width, bias = (self.gates, "hidden"), "bias_input" if self.adds_biases else ""
            phases.append(Product("x", 0, (1, "input"), "input", "gates", width, bias=bias))
        if self.cell.recurrent and (self.options.has_mask or self.options.has_reset):
            operand = "operand"
            phases.append(self._prepare(known))
        if self.late_part is not None:
            phases.append(self._product(operand, range(self.early), "early"))
            known |= self._from_tile(range(self.early))
            outputs = [(self.late_part.outputs[0], Place("late_operand"))]
            outputs += [(n, p) for n, p in collected.items()]
            phases.append(self._pointwise("hidden", known, outputs))
            known |= {n: (p,) for n, p in collected.items()}
            late = range(self.early, self.gates)
            phases.append(self._product("late_operand", late, "late"))
            known |= self._from_tile(late)
        elif self.cell.recurrent:
            phases.append(self._product(operand, range(self.gates), "early"))
            known |= self._from_tile(range(self.gates))
        outputs = [(n, Place(f"state{k}")) for k, n in enumerate(self.main.outputs)]
        if self.cell.output is not None:
            outputs[0] = (outputs[0][0], Place("inner"))
        kept = [(n, p) for n, p in self.storage.kept.items() if n not in collected]
        outputs += [(n, p) for n, p in kept if p.buffer != "saved_output"]
        phases.append(self._pointwise("hidden", known, outputs))
        if self.out_part is not None:
            phases.append(Product("inner", 0, (1, "hidden"), "output", "tile", (1, "output")))
            outputs = [(self.out_part.outputs[0], Place("state0"))]
            outputs += [(n, p) for n, p in kept if p.buffer == "saved_output"]
            phases.append(self._pointwise(unit, known, outputs))
        return phases

    def _prepare(self, known: Mapping[int, Places]) -> Pointwise:
        node = self.graph.input("s0")
        if self.options.has_mask:
            node = self.graph.add("mul", node, self.graph.input("m"))
        return self._pointwise(self.state_unit, known, [(node, Place("operand"))])

    def _product(self, operand: str, gates: range, weight: str) -> Product:
        unit = "hidden" if operand == "late_operand" else self.state_unit
        has_bias = self.adds_biases and weight == "early"
        bias, width = "bias_hidden" if has_bias else "", (len(gates), "hidden")
        return Product(operand, 0, (1, unit), weight, "tile", width, bias=bias)

    def _pointwise(
        self,
        unit: str,
        known: Mapping[int, Places],
        outputs: Iterable[tuple[int, Place]],
        adds: Iterable[Place] = (),
    ) -> Pointwise:
        """Work that stores nodes; what stays where it is already is left out."""
        stores = tuple((n, p) for n, p in outputs if known.get(n) != (p,))
        needed = self.graph.needed([n for n, _ in stores], known)
        loads = {n: known[n] for n in needed if n in known}
        computed = [n for n in needed if n not in known]
        is_row_wise = any(self.graph.nodes[n].op in REDUCTIONS for n in computed)
        return Pointwise(unit, loads, stores, frozenset(adds), is_row_wise)

    def _backward(self, known: Mapping[int, Places]) -> list[Phase]:
        phases: list[Phase] = []
        graph, unit = self.graph, self.state_unit
        if self.out_part is not None:
            gradients = self.out_part.gradients
            stores = [(gradients["p"], Place("grad_inner"))]
            stores += [(gradients.get("s0", graph.constant(0.0)), Place("carry0"))]
            phases.append(self._pointwise(unit, known, stores))
            phases.append(
                Product("grad_inner", 0, (1, "output"), "output_back", "tile", (1, "hidden"))
            )
        phases.append(self._main_backward(known))
        if self.late_part is not None:
            phases += self._late_backward(known)
        if self.cell.recurrent:
            phases += self._hidden_backward(known)
        if self.options.has_input:
            depth = (self.gates, "hidden")
            phases.append(Product("grad_gates", 0, depth, "input_back", "grad_x", (1, "input")))
        if self.options.has_reset:
            others = tuple(range(1, len(self.cell.states)))
            phases.append(Flush((0,), unit))
            phases += [Flush(others, "hidden")] if others else []
        return phases

    def _main_backward(self, known: Mapping[int, Places]) -> Pointwise:
        gradients = self.main.gradients
        stores = [
            (gradients[f"x{k}"], Place("grad_gates", self._gradient_block(k, "x")))
            for k in range(self.gates)
        ]
        if self.cell.recurrent:
            stores += [
                (gradients[f"r{k}"], Place("grad_gates", self._gradient_block(k, "r")))
                for k in range(self.gates)
                if k not in self.folded
            ]
        first = 0 if self.out_part is None else 1
        stores += [
            (gradients[f"s{k}"], Place(f"carry{k}")) for k in range(first, len(self.cell.states))
        ]
        vectors = [Place("grad_vectors", k) for k in range(len(self.cell.vectors))]
        stores += [(gradients[f"v{p.block}"], p) for p in vectors]
        return self._pointwise("hidden", known, stores, vectors)

    def _late_backward(self, known: Mapping[int, Places]) -> list[Phase]:
        gradients = self.late_part.gradients  # type: ignore[union-attr]
        zero = self.graph.constant(0.0)
        first = self._gradient_block(self.early, "r")
        product = Product(
            "grad_gates", first, (self.late, "hidden"), "late_back", "tile", (1, "hidden")
        )
        stores = {}
        for name, node in gradients.items():
            k = int(name[1:])
            if node == zero:
                continue
            if name[0] == "s":
                stores[Place(f"carry{k}")] = node
            else:
                stores[Place("grad_gates", self._gradient_block(k, name[0]))] = node
        flipped = [(n, p) for p, n in stores.items()]
        return [product, self._pointwise("hidden", known, flipped, stores)]

    def _hidden_backward(self, known: Mapping[int, Places]) -> list[Phase]:
        first = self._gradient_block(self.hidden_order[0], "r")
        unit, has_mask = self.state_unit, self.options.has_mask
        result = "tile" if has_mask else "carry0"
        phases: list[Phase] = [
            Product(
                "grad_gates",
                first,
                (self.early, "hidden"),
                "early_back",
                result,
                (1, unit),
                adds=not has_mask,
            )
        ]
        if has_mask:
            node = self.graph.add("mul", self.graph.input("q"), self.graph.input("m"))
            carry = Place("carry0")
            phases.append(self._pointwise(unit, known, [(node, carry)], [carry]))
        return phases


def _mix(new: Tensor, old: Tensor, share: Tensor | None) -> Tensor:
    return new if share is None else share * old + (1 - share) * new


def _is_used(recording: Recording, entry: int) -> bool:
    return any(entry in e.args for e in recording.entries)


def _with_joins(phases: list[Phase], *, is_forward: bool) -> tuple[Phase, ...]:
    """Let threads wait after each phase whose results others read in the next one.

    A product reads whole rows, so it waits for whoever wrote them; other work reads what its own
    thread wrote, unless the two share the work in different ways. The forward pass also waits at
    the end of each step, because scratch that is not kept is used again in the next one.
    """
    joined = []
    for index, phase in enumerate(phases):
        following = phases[(index + 1) % len(phases)]
        is_end = index == len(phases) - 1
        joins = (
            isinstance(following, Product)
            or following.owner != phase.owner
            or (is_end and is_forward)
        )
        joined.append(replace(phase, joins=joins))
    return tuple(joined)
