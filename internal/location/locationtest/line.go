package locationtest

import (
	"net"
	"sync"
	"testing"
)

// A Line passes connections on to a server, and breaks when it is told to.
type Line struct {
	Addr string

	to   string
	mu   sync.Mutex
	took [2]int64 // bytes that came
	left [2]int64 // bytes until it breaks: of clients, of the server; -1: it does not
	down bool     // nothing passes until Mend
	good bool     // Cut was for good
	cuts int
	open map[net.Conn]bool
}

const (
	fromClient = iota
	fromServer
)

// NewLine returns a line to a server's address that passes everything. It ends with the
// test.
func NewLine(t testing.TB, to string) *Line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Line{Addr: listener.Addr().String(), to: to, left: [2]int64{-1, -1}, open: map[net.Conn]bool{}}
	var all sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		l.mu.Lock()
		l.down = true
		l.hangUp()
		l.mu.Unlock()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil || !l.join(c, s) {
				c.Close()
				if err == nil {
					s.Close()
				}
				continue
			}
			all.Go(func() { l.pass(s, c, fromClient) })
			all.Go(func() { l.pass(c, s, fromServer) })
		}
	})
	return l
}

// Cut breaks all connections once so many more bytes of clients or of the server have
// passed; -1 is never. If it is for good, new connections are closed until Mend.
func (l *Line) Cut(ofClients, ofServer int64, forGood bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left, l.good = [2]int64{ofClients, ofServer}, forGood
	if ofClients == 0 || ofServer == 0 {
		l.breakNow()
	}
}

// Mend lets everything pass again.
func (l *Line) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left, l.down = [2]int64{-1, -1}, false
}

// Took returns how many bytes of clients and of the server came so far.
func (l *Line) Took() (ofClients, ofServer int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.took[fromClient], l.took[fromServer]
}

// Cuts returns how often the line broke.
func (l *Line) Cuts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts
}

// join adds a connection's two halves, unless the line is down.
func (l *Line) join(c, s net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.down {
		l.open[c], l.open[s] = true, true
	}
	return !l.down
}

func (l *Line) breakNow() {
	l.cuts++
	l.left, l.down = [2]int64{-1, -1}, l.good
	l.hangUp()
}

func (l *Line) hangUp() {
	for c := range l.open {
		c.Close()
	}
	clear(l.open)
}

// take says how many of n bytes may pass, and breaks the line behind them.
func (l *Line) take(side, n int) (pass int, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took[side] += int64(n)
	if l.left[side] < 0 {
		return n, false
	}
	if int64(n) < l.left[side] {
		l.left[side] -= int64(n)
		return n, false
	}
	return int(l.left[side]), true
}

func (l *Line) pass(dst, src net.Conn, side int) {
	defer func() {
		src.Close()
		dst.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, src)
		delete(l.open, dst)
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		pass, over := l.take(side, n)
		if _, werr := dst.Write(buf[:pass]); werr != nil || over {
			if over {
				l.mu.Lock()
				if l.left[side] >= 0 { // only one of both sides breaks it
					l.breakNow()
				}
				l.mu.Unlock()
			}
			return
		}
		if err != nil {
			return
		}
	}
}
