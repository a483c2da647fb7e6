//! What a prompt of the world can ask for.

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$item_doc])* #[allow(missing_docs)] $item),+ }

        impl $name {
            /// All of them, in a fixed order.
            pub const ALL: &'static [Self] = &[$(Self::$item),+];

            /// The word for it.
            pub fn word(self) -> &'static str {
                match self { $(Self::$item => $text),+ }
            }
        }
    };
}

named! {
    /// The outline of an object.
    Shape {
        Circle = "circle", Square = "square", Triangle = "triangle", Star = "star",
        Heart = "heart", Diamond = "diamond", Cross = "cross", Ring = "ring",
    }
}

impl Shape {
    /// The word for several of them.
    pub fn plural(self) -> String {
        match self {
            Self::Cross => "crosses".into(),
            other => format!("{}s", other.word()),
        }
    }
}

named! {
    /// The fill of an object.
    Colour {
        Red = "red", Green = "green", Blue = "blue", Yellow = "yellow",
        Purple = "purple", Cyan = "cyan", Orange = "orange", Pink = "pink",
    }
}

named! {
    /// A size that a prompt asked for; an object without one may have any.
    Size { Small = "small", Large = "large" }
}

named! {
    /// The flat colour behind the objects.
    Background { White = "white", Black = "black", Gray = "gray" }
}

named! {
    /// Where the subject of a relation stands, seen from its object.
    Side { LeftOf = "left of", RightOf = "right of", Above = "above", Below = "below" }
}

impl Side {
    /// The same relation said from the other end.
    pub fn inverse(self) -> Self {
        match self {
            Self::LeftOf => Self::RightOf,
            Self::RightOf => Self::LeftOf,
            Self::Above => Self::Below,
            Self::Below => Self::Above,
        }
    }

    /// How far a subject at `subject` lies on this side of `object` along the relation's axis,
    /// and how far it lies off that axis. Points are (x, y) with y downwards.
    pub fn offset(self, subject: (f64, f64), object: (f64, f64)) -> (f64, f64) {
        let (dx, dy) = (object.0 - subject.0, object.1 - subject.1);
        match self {
            Self::LeftOf => (dx, dy.abs()),
            Self::RightOf => (-dx, dy.abs()),
            Self::Above => (dy, dx.abs()),
            Self::Below => (-dy, dx.abs()),
        }
    }
}

/// One thing in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    /// Its outline.
    pub shape: Shape,
    /// Its fill; any, where the prompt names none.
    pub colour: Option<Colour>,
    /// Its size; any, where the prompt names none.
    pub size: Option<Size>,
}

impl Object {
    /// Its name without its size, such as "red circle".
    pub fn name(&self) -> String {
        match self.colour {
            Some(colour) => format!("{} {}", colour.word(), self.shape.word()),
            None => self.shape.word().into(),
        }
    }
}

/// `subject` and `object` are indices into [`Scene::objects`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Relation {
    /// The object that is placed.
    pub subject: usize,
    /// On which side of the other.
    pub side: Side,
    /// The object that it is placed by.
    pub object: usize,
}

impl Relation {
    /// The same, said of the other object.
    pub fn inverse(self) -> Self {
        Self {
            subject: self.object,
            side: self.side.inverse(),
            object: self.subject,
        }
    }
}

/// What a prompt asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scene {
    /// One to [`Scene::MAX_OBJECTS`] objects, in the order of the prompt.
    pub objects: Vec<Object>,
    /// How they must stand to each other.
    pub relations: Vec<Relation>,
    /// The background; any, where the prompt names none.
    pub background: Option<Background>,
}

impl Scene {
    /// As many objects as the world holds.
    pub const MAX_OBJECTS: usize = 4;

    /// The colours and shapes of the scene in a fixed order, whatever the wording, the sizes, the
    /// relations and the background: what the split of scenes goes by.
    pub fn content(&self) -> String {
        let mut names: Vec<String> = self.objects.iter().map(Object::name).collect();
        names.sort();
        names.join("+")
    }

    /// Whether both scenes ask for the same, in whatever order.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        let canonical = |scene: &Self| {
            let mut objects = scene.objects.clone();
            objects.sort();
            let mut relations: Vec<_> = scene
                .relations
                .iter()
                .map(|relation| {
                    let (a, b) = (
                        scene.objects[relation.subject],
                        scene.objects[relation.object],
                    );
                    match relation.side {
                        Side::LeftOf | Side::Above => (a, relation.side, b),
                        side => (b, side.inverse(), a),
                    }
                })
                .collect();
            relations.sort();
            (objects, relations, scene.background)
        };
        canonical(self) == canonical(other)
    }
}
