// One instance of a mesh: where it stands, what it belongs to, where in depth and in the atlas it goes.
in vec3 in_position;
in vec3 in_normal;
in vec3 in_colour;
in float in_paint;
in float in_kind;
in vec4 in_row0;      // part to world, three rows
in vec4 in_row1;
in vec4 in_row2;
in vec4 in_tint;      // instance colour; w = object number + 1
in vec4 in_place;     // depth slice begin, depth slice size, tile shift x, tile shift y (pixels)
in vec4 in_box;       // the object's pixel box in the frame
in vec4 in_lamps;     // brake, headlight, red, green: 0 or 1

vec3 to_world(vec3 p) {
    vec4 h = vec4(p, 1.0);
    return vec3(dot(in_row0, h), dot(in_row1, h), dot(in_row2, h));
}

vec3 normal_to_world(vec3 n) {
    // The part's matrix is a rotation times a diagonal scale: its inverse transpose divides by the squared columns.
    vec3 c0 = vec3(in_row0.x, in_row1.x, in_row2.x);
    vec3 c1 = vec3(in_row0.y, in_row1.y, in_row2.y);
    vec3 c2 = vec3(in_row0.z, in_row1.z, in_row2.z);
    return c0 * (n.x / dot(c0, c0)) + c1 * (n.y / dot(c1, c1)) + c2 * (n.z / dot(c2, c2));
}
