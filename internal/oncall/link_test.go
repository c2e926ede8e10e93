package oncall

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast"
)

// A link answers once and in time; looking at it changes nothing.
func TestLink(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.t.Context()
		r.m.cfg.Link = func(secret string) string { return "https://x.example/ack/" + secret }
		r.raise(Call{Key: "a"})
		r.raise(Call{Key: "b", Notice: true})
		r.told(0, "ann", "ben", "cid")
		var secrets []string
		for _, d := range r.sent {
			if _, after, ok := strings.Cut(d.Text, "/ack/"); ok {
				secrets = append(secrets, strings.TrimSpace(after))
			}
		}
		if len(secrets) != 1 {
			r.t.Fatalf("%d links, and one person is asked", len(secrets))
		}
		for range 2 {
			l, err := r.m.Link(ctx, secrets[0])
			if err != nil || l.Person != "ann" || len(l.Calls) != 1 || !l.Used.IsZero() {
				r.t.Fatalf("%+v %v", l, err)
			}
		}
		if _, err := r.m.UseLink(ctx, secrets[0]+"x"); !errors.Is(err, ErrNotFound) {
			r.t.Error(err)
		}
		if l, err := r.m.UseLink(ctx, secrets[0]); err != nil || l.Person != "ann" {
			r.t.Error(l, err)
		}
		if _, err := r.m.UseLink(ctx, secrets[0]); !errors.Is(err, holdfast.ErrRefused) {
			r.t.Error("used twice:", err)
		}
		n := len(r.sent)
		r.told(within, "ben")
		_, late, _ := strings.Cut(r.sent[n].Text, "/ack/")
		r.now = r.now.Add(LinkValid)
		if _, err := r.m.UseLink(ctx, strings.TrimSpace(late)); !errors.Is(err, holdfast.ErrRefused) {
			r.t.Error("used after its end:", err)
		}
		r.now = r.now.Add(linkKept + time.Second)
		if n, err := r.m.PruneLinks(ctx); n != 2 || err != nil {
			r.t.Errorf("%d pruned, %v", n, err)
		}
	})
}
