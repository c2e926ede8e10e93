package web

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"holdfast"
)

// Limits of the drawn graph. A larger one is shown as a list only: a drawing that
// nobody can read helps nobody.
const (
	maxDrawnNodes = 120
	maxLayers     = 24
)

const (
	nodeW, nodeH = 176, 50
	gapX, gapY   = 72, 16
	slimH        = 14 // room that a long edge takes where it passes a layer
	graphPad     = 6
)

// A drawing is a laid-out graph.
type drawing struct {
	W, H  int
	Nodes []drawnNode
	Edges []drawnEdge
}

type drawnNode struct {
	Node
	X, Y  int
	Badge badge
	Label string // shortened to fit
}

type drawnEdge struct {
	Edge
	Path string
	Tone tone
}

// cell is a place in a layer: a node, or a point through which a long edge passes.
type cell struct {
	node int // index in Graph.Nodes, or -1
	y    int
	up   []int // cells of the layer before that lead here
	down []int
}

// draw lays the graph out from left to right: what depends stands left of what it
// needs. Edges that would close a cycle are drawn, but do not shape the layers.
func draw(g Graph) (drawing, bool) {
	n := len(g.Nodes)
	if n == 0 || n > maxDrawnNodes {
		return drawing{}, false
	}
	index := make(map[string]int, n)
	for i, v := range g.Nodes {
		index[v.ID] = i
	}
	out := make([][]int, n) // edge numbers
	var edges []Edge
	for _, e := range g.Edges {
		f, okf := index[e.From]
		_, okt := index[e.To]
		if okf && okt && e.From != e.To {
			out[f] = append(out[f], len(edges))
			edges = append(edges, e)
		}
	}
	layer, back := layers(out, edges, index, n)
	depth := slices.Max(layer) + 1
	if depth > maxLayers {
		return drawing{}, false
	}

	// Cells and links between neighbouring layers.
	var cells []cell
	rows := make([][]int, depth)
	at := make([]int, n)
	for i := range n {
		at[i] = len(cells)
		cells = append(cells, cell{node: i})
		rows[layer[i]] = append(rows[layer[i]], at[i])
	}
	routes := make([][]int, len(edges))
	for k, e := range edges {
		f, t := index[e.From], index[e.To]
		if back[k] {
			routes[k] = []int{at[f], at[t]}
			continue
		}
		route := []int{at[f]}
		for l := layer[f] + 1; l < layer[t]; l++ {
			route = append(route, len(cells))
			rows[l] = append(rows[l], len(cells))
			cells = append(cells, cell{node: -1})
		}
		route = append(route, at[t])
		for i := 1; i < len(route); i++ {
			cells[route[i-1]].down = append(cells[route[i-1]].down, route[i])
			cells[route[i]].up = append(cells[route[i]].up, route[i-1])
		}
		routes[k] = route
	}
	order(rows, cells)
	height := place(rows, cells)

	d := drawing{W: depth*nodeW + (depth-1)*gapX + 2*graphPad, H: height + 2*graphPad}
	x := func(l int) int { return graphPad + l*(nodeW+gapX) }
	for i, v := range g.Nodes {
		d.Nodes = append(d.Nodes, drawnNode{Node: v, X: x(layer[i]), Y: graphPad + cells[at[i]].y, Badge: postureBadge(v.Posture), Label: shorten(v.ID, 20)})
	}
	for k, e := range edges {
		tn := plain
		if p := g.Nodes[index[e.To]].Posture; p == holdfast.PostureFailed {
			tn = bad
		}
		l0 := layer[index[e.From]]
		var b strings.Builder
		if back[k] {
			a, z := cells[routes[k][0]], cells[routes[k][1]]
			ax, ay := x(l0)+nodeW/2, graphPad+a.y+nodeH
			zx, zy := x(layer[index[e.To]])+nodeW/2, graphPad+z.y+nodeH
			fmt.Fprintf(&b, "M%d %dC%d %d %d %d %d %d", ax, ay, ax, ay+gapY, zx, zy+gapY, zx, zy)
		} else {
			px, py := x(l0)+nodeW, graphPad+middle(cells[routes[k][0]])
			fmt.Fprintf(&b, "M%d %d", px, py)
			for i, c := range routes[k][1:] {
				nx, ny := x(l0+1+i), graphPad+middle(cells[c])
				fmt.Fprintf(&b, "C%d %d %d %d %d %d", px+gapX/2, py, nx-gapX/2, ny, nx, ny)
				px, py = nx, ny
				if cells[c].node < 0 {
					px += nodeW
					fmt.Fprintf(&b, "H%d", px)
				}
			}
		}
		d.Edges = append(d.Edges, drawnEdge{Edge: e, Path: b.String(), Tone: tn})
	}
	return d, true
}

// layers gives each node the length of the longest path that leads to it, and
// marks the edges that close a cycle.
func layers(out [][]int, edges []Edge, index map[string]int, n int) (layer []int, back []bool) {
	layer, back = make([]int, n), make([]bool, len(edges))
	state := make([]int8, n) // 0 new, 1 open, 2 done
	var topo []int
	var visit func(v int)
	visit = func(v int) { // depth is at most maxDrawnNodes
		state[v] = 1
		for _, k := range out[v] {
			switch w := index[edges[k].To]; state[w] {
			case 0:
				visit(w)
			case 1:
				back[k] = true
			}
		}
		state[v] = 2
		topo = append(topo, v)
	}
	for v := range n {
		if state[v] == 0 {
			visit(v)
		}
	}
	for _, v := range slices.Backward(topo) {
		for _, k := range out[v] {
			if w := index[edges[k].To]; !back[k] {
				layer[w] = max(layer[w], layer[v]+1)
			}
		}
	}
	return layer, back
}

// order sorts each layer by the mean position of its neighbours, a few times over
// in both directions, which removes most crossings.
func order(rows [][]int, cells []cell) {
	const sweeps = 8
	pos := make([]float64, len(cells))
	number := func() {
		for _, row := range rows {
			for i, c := range row {
				pos[c] = float64(i) - float64(len(row))/2
			}
		}
	}
	mean := func(c int, near []int) float64 {
		if len(near) == 0 {
			return pos[c]
		}
		var sum float64
		for _, o := range near {
			sum += pos[o]
		}
		return sum / float64(len(near))
	}
	number()
	for s := range sweeps {
		for i := range rows {
			row, near := rows[i], func(c int) []int { return cells[c].up }
			if s%2 == 1 {
				row, near = rows[len(rows)-1-i], func(c int) []int { return cells[c].down }
			}
			want := make(map[int]float64, len(row))
			for _, c := range row {
				want[c] = mean(c, near(c))
			}
			slices.SortStableFunc(row, func(a, b int) int {
				switch {
				case want[a] < want[b]:
					return -1
				case want[a] > want[b]:
					return 1
				}
				return 0
			})
			number()
		}
	}
}

// place stacks each layer and centres it; it returns the height of the drawing.
func place(rows [][]int, cells []cell) int {
	high := func(c int) int {
		if cells[c].node < 0 {
			return slimH
		}
		return nodeH
	}
	tall := 0
	heights := make([]int, len(rows))
	for i, row := range rows {
		h := -gapY
		for _, c := range row {
			h += high(c) + gapY
		}
		heights[i] = h
		tall = max(tall, h)
	}
	for i, row := range rows {
		y := (tall - heights[i]) / 2
		for _, c := range row {
			cells[c].y = y
			y += high(c) + gapY
		}
	}
	return tall
}

func middle(c cell) int {
	if c.node < 0 {
		return c.y + slimH/2
	}
	return c.y + nodeH/2
}

// shorten cuts s to n characters; the whole is in the node's title.
func shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
