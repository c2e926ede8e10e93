package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"holdfast/internal/source/postgres/wal"
)

// Limits on what a server may answer.
const (
	maxHistory  = 1 << 20 // bytes of one timeline history file
	maxAncestry = 1 << 10 // timelines before the current one
)

// SQLSTATE codes that decide something here.
const (
	stateInvalidPassword   = "28P01"
	stateInvalidAuth       = "28000"
	stateNoPrivilege       = "42501"
	stateTooManyConns      = "53300"
	stateSlotLimit         = "53400"
	stateUndefinedObject   = "42704"
	stateDuplicateObject   = "42710"
	stateObjectInUse       = "55006"
	statePrerequisite      = "55000"
	stateUndefinedFile     = "58P01"
	stateCannotConnectNow  = "57P03"
	stateUndefinedDatabase = "3D000"
)

// FormatLSN writes a log position as PostgreSQL does: "1/A0000028".
func FormatLSN(lsn uint64) string { return wal.LSN(lsn).String() }

// ParseLSN reads a log position as PostgreSQL writes it.
func ParseLSN(s string) (uint64, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if ok {
		h, err1 := strconv.ParseUint(hi, 16, 32)
		l, err2 := strconv.ParseUint(lo, 16, 32)
		if err1 == nil && err2 == nil {
			return h<<32 | l, nil
		}
	}
	return 0, fmt.Errorf("log position %q is not of the form 1/A0000028", s)
}

// SegmentStart returns the first position of the log segment that holds lsn.
func SegmentStart(lsn uint64, segmentSize int64) uint64 {
	return lsn - lsn%uint64(segmentSize)
}

// pgEpoch is where PostgreSQL counts its microseconds from.
var pgEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// pgTime is an instant of the server's: microseconds since 2000. A duration holds
// three hundred years of them and not what garbage may say, so seconds go apart.
func pgTime(us uint64) time.Time {
	return pgEpoch.Add(time.Duration(int64(us)/1e6) * time.Second).Add(time.Duration(int64(us)%1e6) * time.Microsecond)
}

func pgMicros(t time.Time) uint64 { return uint64(t.Sub(pgEpoch) / time.Microsecond) }

// sqlState returns the server's error code in err's chain, or "".
func sqlState(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	return ""
}

// plainConnectError shortens a connection error to what a person can use. The
// library's text names host, user and database and never the password, but repeats
// itself for every address it tried.
func plainConnectError(err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return &serverError{pe}
	}
	var ce *pgconn.ConnectError
	if errors.As(err, &ce) {
		msg := strings.ReplaceAll(ce.Error(), "\n", "; ")
		return &shortError{strings.Join(strings.Fields(msg), " "), err}
	}
	return err
}

// A serverError is what the server answered, in its own words.
type serverError struct{ pe *pgconn.PgError }

func (e *serverError) Error() string {
	msg := e.pe.Message
	if e.pe.Detail != "" {
		msg += " (" + e.pe.Detail + ")"
	}
	return fmt.Sprintf("server says: %s (SQLSTATE %s)", msg, e.pe.Code)
}
func (e *serverError) Unwrap() error { return e.pe }

type shortError struct {
	text string
	err  error
}

func (e *shortError) Error() string { return e.text }
func (e *shortError) Unwrap() error { return e.err }

// A replConn is one connection that speaks the replication protocol. It is used by
// one goroutine at a time, except that a stream has one reader and one writer.
type replConn struct {
	pg *pgconn.PgConn
}

// connect opens a physical replication connection.
func (s *Source) connect(ctx context.Context) (*replConn, error) {
	return s.connectReplication(ctx, s.replication())
}

// connectReplication opens a replication connection with given settings.
func (s *Source) connectReplication(ctx context.Context, cfg *pgconn.Config) (*replConn, error) {
	pg, err := s.dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &replConn{pg: pg}, nil
}

// replication is how to open a physical replication connection.
func (s *Source) replication() *pgconn.Config {
	cfg := s.conn.Copy()
	cfg.RuntimeParams["replication"] = "true"
	if cfg.ValidateConnect != nil {
		cfg.ValidateConnect = sessionAttrs(cfg.ValidateConnect)
	}
	return cfg
}

// sessionAttrs asks what a connection string with several hosts wants of the server
// (target_session_attrs), in the words that a replication connection understands: the
// library asks in SQL, which the server refuses there.
func sessionAttrs(asked pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	is := func(f pgconn.ValidateConnectFunc) bool {
		return reflect.ValueOf(asked).Pointer() == reflect.ValueOf(f).Pointer()
	}
	want := ""
	switch {
	case is(pgconn.ValidateConnectTargetSessionAttrsReadWrite), is(pgconn.ValidateConnectTargetSessionAttrsPrimary):
		want = "off"
	case is(pgconn.ValidateConnectTargetSessionAttrsReadOnly), is(pgconn.ValidateConnectTargetSessionAttrsStandby):
		want = "on"
	default: // a preference; any server will do
		return nil
	}
	return func(ctx context.Context, pg *pgconn.PgConn) error {
		got, err := (&replConn{pg: pg}).show(ctx, "transaction_read_only")
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("transaction_read_only is %s there", got)
		}
		return nil
	}
}

// close says goodbye, for a bounded time: a dead peer must not hold us up.
func (c *replConn) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = c.pg.Close(ctx) // nothing to be done about a connection that is gone
}

// simpleQuery runs one command by the simple protocol and returns the rows of its last
// result. A NULL is "".
func simpleQuery(ctx context.Context, pg *pgconn.PgConn, command string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	results, err := pg.Exec(ctx, command).ReadAll()
	if err != nil {
		var pe *pgconn.PgError
		if errors.As(err, &pe) {
			err = &serverError{pe}
		}
		return nil, err
	}
	if len(results) == 0 {
		return nil, nil
	}
	var rows [][]string
	for _, r := range results[len(results)-1].Rows {
		row := make([]string, len(r))
		for i, v := range r {
			row[i] = string(v)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// query runs one SQL statement on an ordinary connection. A role that may only
// replicate is refused by the server; callers treat that as "not known".
func (s *Source) query(ctx context.Context, sql string) ([][]string, error) {
	pg, err := s.dial(ctx, s.conn.Copy())
	if err != nil {
		return nil, err
	}
	c := &replConn{pg: pg}
	defer c.close()
	return simpleQuery(ctx, pg, sql)
}

// version returns the server's version number as PostgreSQL counts it (150018 for
// 15.18), from the text it announces.
func (c *replConn) version() int {
	return parseVersion(c.pg.ParameterStatus("server_version"))
}

func parseVersion(s string) int {
	s, _, _ = strings.Cut(s, " ") // "15.18 (Debian …)"
	major, minor, _ := strings.Cut(s, ".")
	digits := func(s string) int {
		n := 0
		for _, r := range s {
			if r < '0' || r > '9' || n > 1<<20 {
				break // "18beta1"
			}
			n = n*10 + int(r-'0')
		}
		return n
	}
	return digits(major)*10000 + digits(minor)
}

// A system is what IDENTIFY_SYSTEM answers.
type system struct {
	ID       string // system identifier, decimal: the lineage
	Timeline uint32
	Flush    uint64 // end of the log on the server's disk
}

func (c *replConn) identify(ctx context.Context) (system, error) {
	rows, err := simpleQuery(ctx, c.pg, "IDENTIFY_SYSTEM")
	if err != nil {
		return system{}, fmt.Errorf("identify system: %w", err)
	}
	if len(rows) != 1 || len(rows[0]) < 3 {
		return system{}, errors.New("identify system: the server's answer has the wrong shape")
	}
	tli, err := strconv.ParseUint(rows[0][1], 10, 32)
	if err != nil {
		return system{}, fmt.Errorf("identify system: timeline %q: %w", rows[0][1], err)
	}
	if _, err := strconv.ParseUint(rows[0][0], 10, 64); err != nil {
		return system{}, fmt.Errorf("identify system: identifier %q: %w", rows[0][0], err)
	}
	lsn, err := ParseLSN(rows[0][2])
	if err != nil {
		return system{}, fmt.Errorf("identify system: %w", err)
	}
	return system{ID: rows[0][0], Timeline: uint32(tli), Flush: lsn}, nil
}

// show reads one setting as SHOW writes it, with unit.
func (c *replConn) show(ctx context.Context, name string) (string, error) {
	rows, err := simpleQuery(ctx, c.pg, "SHOW "+name)
	if err != nil {
		return "", fmt.Errorf("read setting %q: %w", name, err)
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		return "", fmt.Errorf("read setting %q: the server's answer has the wrong shape", name)
	}
	return rows[0][0], nil
}

// showBytes reads a setting that is a size, for example "16MB". -1 stays -1.
func (c *replConn) showBytes(ctx context.Context, name string) (int64, error) {
	text, err := c.show(ctx, name)
	if err != nil {
		return 0, err
	}
	n, err := parseBytes(text)
	if err != nil {
		return 0, fmt.Errorf("read setting %q: %w", name, err)
	}
	return n, nil
}

func parseBytes(text string) (int64, error) {
	i := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '-' })
	num, unit := text, ""
	if i >= 0 {
		num, unit = text[:i], strings.TrimSpace(text[i:])
	}
	n, err := strconv.ParseInt(num, 10, 64)
	shift, known := map[string]uint{"": 0, "B": 0, "kB": 10, "MB": 20, "GB": 30, "TB": 40}[unit]
	if err != nil || !known || n > 1<<62>>shift {
		return 0, fmt.Errorf("size %q is not understood", text)
	}
	if n < 0 {
		return n, nil
	}
	return n << shift, nil
}

// createSlot makes a physical slot that keeps the log from now on. Without
// RESERVE_WAL the first segments could be gone before the first byte is streamed.
// A slot of that name that is already there is not an error.
func (c *replConn) createSlot(ctx context.Context, name string) error {
	_, err := simpleQuery(ctx, c.pg, fmt.Sprintf("CREATE_REPLICATION_SLOT %q PHYSICAL RESERVE_WAL", name))
	if err != nil && sqlState(err) != stateDuplicateObject {
		return fmt.Errorf("create replication slot %q: %w", name, err)
	}
	return nil
}

func (c *replConn) dropSlot(ctx context.Context, name string) error {
	_, err := simpleQuery(ctx, c.pg, fmt.Sprintf("DROP_REPLICATION_SLOT %q", name))
	if err != nil && sqlState(err) != stateUndefinedObject {
		return fmt.Errorf("drop replication slot %q: %w", name, err)
	}
	return nil
}

// A slot is what the server says about a physical replication slot.
type slot struct {
	Exists  bool
	Kind    string // "physical" or "logical"
	Restart uint64 // 0: reserves nothing
	Known   bool   // false: this server (before 15) tells a replication connection nothing
}

func (c *replConn) readSlot(ctx context.Context, name string) (slot, error) {
	if c.version() < 150000 {
		return slot{}, nil
	}
	rows, err := simpleQuery(ctx, c.pg, fmt.Sprintf("READ_REPLICATION_SLOT %q", name))
	if err != nil {
		if strings.Contains(err.Error(), "logical replication slot") {
			return slot{Exists: true, Kind: "logical", Known: true}, nil
		}
		return slot{}, fmt.Errorf("read replication slot %q: %w", name, err)
	}
	sl := slot{Known: true}
	if len(rows) == 1 && len(rows[0]) >= 2 && rows[0][0] != "" {
		sl.Exists, sl.Kind = true, rows[0][0]
		if rows[0][1] != "" {
			if sl.Restart, err = ParseLSN(rows[0][1]); err != nil {
				return slot{}, fmt.Errorf("read replication slot %q: %w", name, err)
			}
		}
	}
	return sl, nil
}

// timelineHistory fetches the history file of a timeline. Timeline 1 has none.
func (c *replConn) timelineHistory(ctx context.Context, tli uint32) ([]byte, error) {
	if tli <= 1 {
		return nil, nil
	}
	rows, err := simpleQuery(ctx, c.pg, fmt.Sprintf("TIMELINE_HISTORY %d", tli))
	if err != nil {
		return nil, fmt.Errorf("read history of timeline %d: %w", tli, err)
	}
	if len(rows) != 1 || len(rows[0]) != 2 || len(rows[0][1]) > maxHistory {
		return nil, fmt.Errorf("read history of timeline %d: the server's answer has the wrong shape", tli)
	}
	return []byte(rows[0][1]), nil
}

// startReplication begins to stream timeline tli from lsn, with a slot unless its name
// is empty. A reached end of timeline is reported by the stream itself, as *timelineEnd.
func (c *replConn) startReplication(ctx context.Context, slot string, lsn uint64, tli uint32) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if slot != "" {
		slot = fmt.Sprintf("SLOT %q ", slot)
	}
	command := fmt.Sprintf("START_REPLICATION %sPHYSICAL %s TIMELINE %d", slot, FormatLSN(lsn), tli)
	c.pg.Frontend().Send(&pgproto3.Query{String: command})
	if err := c.pg.Frontend().Flush(); err != nil {
		return fmt.Errorf("start replication: %w", err)
	}
	var ended timelineEnd
	for range 64 { // notices and parameter changes may come first, never many
		msg, err := c.pg.ReceiveMessage(ctx)
		if err != nil {
			return fmt.Errorf("start replication: %w", err)
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyBothResponse:
			return nil
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("start replication at %s on timeline %d: %w", FormatLSN(lsn), tli,
				&serverError{pgconn.ErrorResponseToPgError(msg)})
		case *pgproto3.DataRow:
			// The timeline already ended exactly at lsn: the server answers with what
			// comes next and never enters the copy.
			if err := ended.read(msg); err != nil {
				return err
			}
		case *pgproto3.ReadyForQuery:
			if ended.Next != 0 {
				return &ended
			}
			return errors.New("start replication: the server ended the command without a stream")
		}
	}
	return errors.New("start replication: the server does not begin to stream")
}

// A timelineEnd says that the timeline being streamed is complete, and what follows.
type timelineEnd struct {
	Next  uint32
	Start uint64
}

func (e *timelineEnd) Error() string {
	return fmt.Sprintf("the timeline ended; timeline %d begins at %s", e.Next, FormatLSN(e.Start))
}

func (e *timelineEnd) read(row *pgproto3.DataRow) error {
	if len(row.Values) != 2 {
		return errors.New("end of timeline: the server's answer has the wrong shape")
	}
	tli, err := strconv.ParseUint(string(row.Values[0]), 10, 32)
	if err != nil {
		return fmt.Errorf("end of timeline: next timeline %q: %w", row.Values[0], err)
	}
	e.Next = uint32(tli)
	e.Start, err = ParseLSN(string(row.Values[1]))
	return err
}

// A walData is one stretch of log as it arrived.
type walData struct {
	Start     uint64
	ServerEnd uint64 // end of the log on the server's disk when it sent this
	Data      []byte
}

// A keepalive is the server's sign of life.
type keepalive struct {
	Sent  uint64    // everything before it was sent before this message
	At    time.Time // when it was sent, by the server's clock
	Reply bool      // the server waits for an answer
}

// errStreamEnded is the orderly end of a stream: the server shuts down, and has sent
// everything up to its shutdown checkpoint.
var errStreamEnded = errors.New("the server ended the stream: it is shutting down")

// A copyDone is the server's word that it has sent all of a timeline. The caller
// goes on with endOfTimeline.
type copyDone struct{}

// receive returns the next message of a running stream: a walData, a keepalive or
// a copyDone. The data belongs to the caller. It may run beside send.
func (c *replConn) receive(ctx context.Context) (any, error) {
	for {
		msg, err := c.pg.ReceiveMessage(ctx)
		if err != nil {
			return nil, err
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyData:
			if len(msg.Data) == 0 {
				return nil, errors.New("the server sent an empty copy message")
			}
			switch body := msg.Data[1:]; msg.Data[0] {
			case 'w':
				if len(body) < 24 {
					return nil, errors.New("the server sent a short log message")
				}
				return walData{
					Start:     binary.BigEndian.Uint64(body),
					ServerEnd: binary.BigEndian.Uint64(body[8:]),
					Data:      append([]byte(nil), body[24:]...), // the library reuses its buffer
				}, nil
			case 'k':
				if len(body) < 17 {
					return nil, errors.New("the server sent a short keepalive")
				}
				return keepalive{Sent: binary.BigEndian.Uint64(body), At: pgTime(binary.BigEndian.Uint64(body[8:])), Reply: body[16] != 0}, nil
			default:
				return nil, fmt.Errorf("the server sent a copy message of unknown kind %q", msg.Data[0])
			}
		case *pgproto3.CopyDone:
			return copyDone{}, nil
		case *pgproto3.CommandComplete:
			return nil, errStreamEnded
		case *pgproto3.ErrorResponse:
			return nil, &serverError{pgconn.ErrorResponseToPgError(msg)}
		}
	}
}

// endOfTimeline answers the server's CopyDone and reads what follows. No receive
// and no send may run beside it.
func (c *replConn) endOfTimeline(ctx context.Context) (*timelineEnd, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	c.pg.Frontend().Send(&pgproto3.CopyDone{})
	if err := c.pg.Frontend().Flush(); err != nil {
		return nil, fmt.Errorf("end of timeline: %w", err)
	}
	var ended timelineEnd
	for range 64 {
		msg, err := c.pg.ReceiveMessage(ctx)
		if err != nil {
			return nil, fmt.Errorf("end of timeline: %w", err)
		}
		switch msg := msg.(type) {
		case *pgproto3.DataRow:
			if err := ended.read(msg); err != nil {
				return nil, err
			}
		case *pgproto3.ErrorResponse:
			return nil, fmt.Errorf("end of timeline: %w", &serverError{pgconn.ErrorResponseToPgError(msg)})
		case *pgproto3.ReadyForQuery:
			if ended.Next == 0 {
				return nil, errStreamEnded
			}
			return &ended, nil
		}
	}
	return nil, errors.New("end of timeline: the server does not say what follows")
}

// A status is what we tell the server. A position of zero means "nothing yet", and
// is sent as such: it must never turn into another position, or the server would
// recycle log and acknowledge commits that nobody holds.
type status struct {
	Written uint64 // received and in the spool
	Flushed uint64 // durable by the declared policy
	Applied uint64
	Reply   bool // ask for a keepalive
}

// send tells the server how far we are.
func (c *replConn) send(st status, now time.Time) error {
	b := make([]byte, 0, 34)
	b = append(b, 'r')
	b = binary.BigEndian.AppendUint64(b, st.Written)
	b = binary.BigEndian.AppendUint64(b, st.Flushed)
	b = binary.BigEndian.AppendUint64(b, st.Applied)
	b = binary.BigEndian.AppendUint64(b, pgMicros(now))
	if st.Reply {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	message, err := (&pgproto3.CopyData{Data: b}).Encode(nil)
	if err != nil {
		return fmt.Errorf("tell the server how far we are: %w", err)
	}
	// Straight to the socket: the library's own buffer belongs to the reader, and to
	// the goodbye that it sends by itself when the reader meets an error.
	if err := c.pg.Conn().SetWriteDeadline(time.Now().Add(commandTimeout)); err != nil {
		return fmt.Errorf("tell the server how far we are: %w", err)
	}
	if _, err := c.pg.Conn().Write(message); err != nil {
		return fmt.Errorf("tell the server how far we are: %w", err)
	}
	return c.pg.Conn().SetWriteDeadline(time.Time{})
}
