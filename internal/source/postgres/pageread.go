package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Single pages are read as pg_rewind reads them from a live server: with functions that
// a role may be granted, and that reach no farther than the data directory. A role that
// may replicate can read all of it anyway.

const (
	readPiece  = 1 << 20 // bytes of one answer
	readBatch  = 4 << 20 // bytes of one query's answers
	readPieces = 2048    // answers of one query
	readQueue  = 2       // queries whose answers wait
)

// A wanted is a run of a file that is to be read.
type wanted struct {
	path   string
	off, n int64 // n is at most readPiece
}

// readQuery brings pieces in the order asked. A file that is not there is NULL, one that
// is shorter gives less.
const readQuery = `SELECT pg_catalog.pg_read_binary_file(p, o, n, true)
	FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS w(p, o, n, i) ORDER BY i`

// readPiecesOf runs one query. take gets each answer in turn, nil for a file that is not
// there; the bytes are its own.
func readPiecesOf(ctx context.Context, pg *pgconn.PgConn, ws []wanted, take func(i int, b []byte) error) error {
	var paths, offs, lens []string
	for _, w := range ws {
		paths = append(paths, quoteElement(w.path))
		offs = append(offs, strconv.FormatInt(w.off, 10))
		lens = append(lens, strconv.FormatInt(w.n, 10))
	}
	array := func(items []string) []byte { return []byte("{" + strings.Join(items, ",") + "}") }
	const binary = 1
	r := pg.ExecParams(ctx, readQuery, [][]byte{array(paths), array(offs), array(lens)}, nil, nil, []int16{binary})
	i, err := 0, error(nil)
	for r.NextRow() {
		v := r.Values()
		if err != nil || len(v) != 1 || i >= len(ws) {
			continue
		}
		b := v[0]
		if int64(len(b)) > ws[i].n {
			err = fmt.Errorf("read %q: the server sent %d bytes for %d", ws[i].path, len(b), ws[i].n)
			continue
		}
		if b != nil {
			b = append(make([]byte, 0, len(b)), b...)
		}
		err = take(i, b)
		i++
	}
	if _, cerr := r.Close(); cerr != nil {
		var pe *pgconn.PgError
		if errors.As(cerr, &pe) {
			cerr = &serverError{pe}
		}
		return fmt.Errorf("read pages: %w", cerr)
	}
	if err == nil && i != len(ws) {
		err = fmt.Errorf("read pages: the server answered %d of %d", i, len(ws))
	}
	return err
}

// quoteElement writes an element of an array.
func quoteElement(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// A pageReader reads pieces ahead of who asks for them, over one connection.
type pageReader struct {
	answers chan [][]byte
	batch   [][]byte
	cancel  context.CancelFunc
	err     error // why answers was closed; set before
}

// readAll begins to read pieces in their order.
func readAll(ctx context.Context, pg *pgconn.PgConn, ws []wanted) *pageReader {
	ctx, cancel := context.WithCancel(ctx)
	r := &pageReader{answers: make(chan [][]byte, readQueue), cancel: cancel}
	go func() {
		defer close(r.answers)
		for len(ws) > 0 {
			n, size := 0, int64(0)
			for n < len(ws) && n < readPieces && (n == 0 || size+ws[n].n <= readBatch) {
				size += ws[n].n
				n++
			}
			batch := make([][]byte, n)
			if r.err = readPiecesOf(ctx, pg, ws[:n], func(i int, b []byte) error { batch[i] = b; return nil }); r.err != nil {
				return
			}
			select {
			case r.answers <- batch:
			case <-ctx.Done():
				r.err = ctx.Err()
				return
			}
			ws = ws[n:]
		}
	}()
	return r
}

// next returns the next piece; nil: its file is not there.
func (r *pageReader) next() ([]byte, error) {
	if len(r.batch) == 0 {
		batch, ok := <-r.answers
		if !ok {
			if r.err != nil {
				return nil, r.err
			}
			return nil, errors.New("read pages: asked for more than was wanted")
		}
		r.batch = batch
	}
	b := r.batch[0]
	r.batch = r.batch[1:]
	return b, nil
}

// close ends the reading and waits for it.
func (r *pageReader) close() {
	r.cancel()
	for range r.answers { //nolint:revive // until it is closed
	}
}

// A listedFile is a file or folder of the data directory as the server lists it.
type listedFile struct {
	path  string
	size  int64
	dir   bool
	mtime int64 // seconds since 1970
}

// listQuery walks the data directory. What the server makes anew is not looked into.
const listQuery = `WITH RECURSIVE f(path, size, dir, mtime) AS (
	SELECT n, s.size, s.isdir, extract(epoch FROM s.modification)::bigint
		FROM pg_catalog.pg_ls_dir('.', true, false) AS n, pg_catalog.pg_stat_file(n, true) AS s
	UNION ALL
	SELECT f.path || '/' || n, s.size, s.isdir, extract(epoch FROM s.modification)::bigint
		FROM f, pg_catalog.pg_ls_dir(f.path, true, false) AS n, pg_catalog.pg_stat_file(f.path || '/' || n, true) AS s
		WHERE f.dir AND f.path NOT IN ('pg_wal', 'pg_dynshmem', 'pg_notify', 'pg_replslot', 'pg_serial', 'pg_snapshots', 'pg_stat_tmp', 'pg_subtrans')
			AND f.path !~ '(^|/)pgsql_tmp[^/]*$')
	SELECT path, size, dir, mtime FROM f WHERE size IS NOT NULL`

// listFiles lists what a base backup consists of, as BASE_BACKUP chooses it: without what
// belongs to the running server only, to temporary relations, and to unlogged ones but for
// their init forks.
func listFiles(ctx context.Context, pg *pgconn.PgConn, major int) ([]listedFile, error) {
	rows, err := simpleQuery(ctx, pg, listQuery)
	if err != nil {
		return nil, fmt.Errorf("list the data directory: %w", err)
	}
	if len(rows) > maxBackupFiles {
		return nil, fmt.Errorf("the cluster has more than %d files", maxBackupFiles)
	}
	var out []listedFile
	unlogged := map[string]bool{}
	for _, row := range rows {
		if len(row) != 4 {
			return nil, errors.New("list the data directory: the server's answer has the wrong shape")
		}
		f := listedFile{path: row[0], dir: row[2] == "t"}
		var err1, err2 error
		f.size, err1 = strconv.ParseInt(row[1], 10, 64)
		f.mtime, err2 = strconv.ParseInt(row[3], 10, 64)
		if err := errors.Join(err1, err2); err != nil || f.size < 0 {
			return nil, fmt.Errorf("list the data directory: file %q: %w", f.path, err)
		}
		if leftOut(f.path, major) {
			continue
		}
		if p, ok := strings.CutSuffix(f.path, "_init"); ok && relationFile.MatchString(f.path) {
			unlogged[p] = true
		}
		out = append(out, f)
	}
	kept := out[:0]
	for _, f := range out {
		if relationFile.MatchString(f.path) && !strings.HasSuffix(f.path, "_init") {
			main, _, _ := strings.Cut(f.path, ".")
			dir, base := main[:strings.LastIndexByte(main, '/')+1], main[strings.LastIndexByte(main, '/')+1:]
			if base[0] != 't' {
				base, _, _ = strings.Cut(base, "_")
			}
			if base[0] == 't' || unlogged[dir+base] {
				continue
			}
		}
		kept = append(kept, f)
	}
	return kept, nil
}

// leftOut reports whether BASE_BACKUP leaves a file out.
func leftOut(name string, major int) bool {
	base := name[strings.LastIndexByte(name, '/')+1:]
	switch {
	case strings.HasPrefix(base, "pgsql_tmp"), strings.HasPrefix(base, "pg_internal.init"):
		return true
	case strings.HasPrefix(name, linksPrefix):
		// In a tablespace, only what is of this version.
		_, in, ok := strings.Cut(name[len(linksPrefix):], "/")
		return ok && !strings.HasPrefix(in, fmt.Sprintf("PG_%d_", major))
	}
	switch base {
	case "postgresql.auto.conf.tmp", "current_logfiles.tmp", "backup_label", tablespaceMap, "backup_manifest", "postmaster.pid", "postmaster.opts":
		return true
	}
	return false
}
