//! Directed graphs and their cycles.

use std::collections::VecDeque;

/// Nodes by number, and edges that carry something.
pub struct Graph<E> {
    edges: Vec<Vec<(usize, E)>>,
}

impl<E: Copy> Graph<E> {
    /// Nodes without edges.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { edges: (0..nodes).map(|_| Vec::new()).collect() }
    }

    /// One more node.
    pub fn add_node(&mut self) -> usize {
        self.edges.push(Vec::new());
        self.edges.len() - 1
    }

    /// An edge. One from a node to itself says nothing, and is left out.
    pub fn add_edge(&mut self, from: usize, to: usize, edge: E) {
        if from != to {
            self.edges[from].push((to, edge));
        }
    }

    /// The sets of nodes that reach each other over the edges that `follow` allows, if they are more than one (Tarjan
    /// 1972, without recursion).
    pub fn components(&self, follow: impl Fn(E) -> bool) -> Vec<Vec<usize>> {
        const UNSEEN: usize = usize::MAX;
        let nodes = self.edges.len();
        let (mut index, mut low) = (vec![UNSEEN; nodes], vec![0; nodes]);
        let mut is_open = vec![false; nodes];
        let (mut open, mut path, mut components) = (Vec::new(), Vec::new(), Vec::new());
        let mut count = 0;
        for start in 0..nodes {
            if index[start] == UNSEEN {
                path.push((start, 0));
            }
            while let Some((node, edge)) = path.pop() {
                if edge == 0 {
                    (index[node], low[node]) = (count, count);
                    count += 1;
                    open.push(node);
                    is_open[node] = true;
                } else {
                    // Back from where its last edge led.
                    let (to, _) = self.edges[node][edge - 1];
                    if is_open[to] {
                        low[node] = low[node].min(low[to]);
                    }
                }
                let rest = self.edges[node].iter().enumerate().skip(edge);
                let next = rest.filter(|(_, (_, edge))| follow(*edge)).find_map(|(i, &(to, _))| {
                    if index[to] == UNSEEN {
                        return Some((i, to));
                    }
                    if is_open[to] {
                        low[node] = low[node].min(index[to]);
                    }
                    None
                });
                if let Some((i, to)) = next {
                    path.push((node, i + 1));
                    path.push((to, 0));
                } else if low[node] == index[node] {
                    let first = open.iter().rposition(|other| *other == node).expect("it is open");
                    let component = open.split_off(first);
                    component.iter().for_each(|node| is_open[*node] = false);
                    if component.len() > 1 {
                        components.push(component);
                    }
                }
            }
        }
        components
    }

    /// The shortest way, as edges with the nodes they start from.
    pub fn path(&self, from: usize, to: usize, follow: impl Fn(E) -> bool) -> Option<Vec<(usize, E)>> {
        let mut came: Vec<Option<(usize, E)>> = vec![None; self.edges.len()];
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            for &(next, edge) in self.edges[node].iter().filter(|(_, edge)| follow(*edge)) {
                if came[next].is_none() && next != from {
                    came[next] = Some((node, edge));
                    queue.push_back(next);
                }
            }
            if came[to].is_some() {
                break;
            }
        }
        let mut path = Vec::new();
        let mut node = to;
        while node != from {
            let (before, edge) = came[node]?;
            path.push((before, edge));
            node = before;
        }
        path.reverse();
        Some(path)
    }

    /// The edges from a node.
    pub fn edges(&self, from: usize) -> impl Iterator<Item = (usize, E)> {
        self.edges[from].iter().copied()
    }
}
