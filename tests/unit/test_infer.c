/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_test.h"

/* --- expressions --- */

static const char *formatted(kln_dim dim)
{
    (void)kln_dim_format(dim, text, sizeof text);
    return text;
}

TEST(expressions_are_exact)
{
    kln_arena arena;
    kln_expressions pool;
    kln_arena_init(&arena);
    kln_expressions_init(&pool, &arena);
    const kln_dim n = kln_dim_of_name(&pool, "n");
    const kln_dim h = kln_dim_of_name(&pool, "h");
    const kln_dim two = KLN_DIM_OF_NUMBER(2);

    assert_string_equal("n", formatted(n));
    assert_string_equal("n", kln_dim_name(n));
    const kln_dim odd = kln_dim_plus(&pool, kln_dim_times(&pool, n, 2), 1);
    assert_string_equal("2*n+1", formatted(odd));
    assert_null(kln_dim_name(odd));
    assert_true(kln_dim_equal(odd, kln_dim_add(&pool, kln_dim_plus(&pool, n, 1), n)));
    assert_string_equal("floor((h+1)/2)", formatted(kln_dim_ceil_divide(&pool, h, two)));
    /* What divides goes outside. */
    assert_string_equal("n", formatted(kln_dim_floor_divide(&pool, odd, two)));
    assert_string_equal(
        "n+floor((h+3)/4)",
        formatted(kln_dim_floor_divide(
            &pool, kln_dim_plus(&pool, kln_dim_add(&pool, kln_dim_times(&pool, n, 4), h), 3),
            KLN_DIM_OF_NUMBER(4))));
    assert_string_equal("n*h", formatted(kln_dim_multiply(&pool, h, n)));
    assert_string_equal("3*h",
                        formatted(kln_dim_floor_divide(
                            &pool, kln_dim_times(&pool, kln_dim_multiply(&pool, h, n), 3), n)));
    assert_string_equal("0", formatted(kln_dim_subtract(&pool, n, n)));
    assert_string_equal("n-1", formatted(kln_dim_plus(&pool, n, -1)));
    assert_string_equal("-n+5", formatted(kln_dim_subtract(&pool, KLN_DIM_OF_NUMBER(5), n)));
    assert_string_equal("max(n-1,0)", formatted(kln_dim_max(&pool, kln_dim_plus(&pool, n, -1),
                                                            KLN_DIM_OF_NUMBER(0))));
    assert_string_equal("n", formatted(kln_dim_max(&pool, KLN_DIM_OF_NUMBER(0), n)));
    assert_string_equal("n+2", formatted(kln_dim_max(&pool, n, kln_dim_plus(&pool, n, 2))));
    assert_string_equal("min(h,10)", formatted(kln_dim_min(&pool, KLN_DIM_OF_NUMBER(10), h)));
    assert_string_equal("-4", formatted(kln_dim_floor_divide(&pool, KLN_DIM_OF_NUMBER(-7), two)));
    kln_arena_finish(&arena);
}

TEST(expressions_stay_small)
{
    kln_arena arena;
    kln_expressions pool;
    kln_arena_init(&arena);
    kln_expressions_init(&pool, &arena);
    const kln_dim n = kln_dim_of_name(&pool, "n");
    kln_dim deep = n;
    kln_dim high = n;
    for (int i = 0; i < 1000; i++) {
        deep = kln_dim_floor_divide(&pool, kln_dim_plus(&pool, deep, 1), KLN_DIM_OF_NUMBER(2));
        high = kln_dim_multiply(&pool, high, n);
    }
    assert_int_equal(KLN_DIM_UNKNOWN, deep.kind);
    assert_int_equal(KLN_DIM_UNKNOWN, high.kind);
    kln_dim large = kln_dim_times(&pool, n, INT64_MAX);
    assert_int_equal(KLN_DIM_EXPRESSION, large.kind);
    assert_int_equal(KLN_DIM_UNKNOWN, kln_dim_times(&pool, large, 2).kind);
    assert_int_equal(KLN_DIM_UNKNOWN, kln_dim_add(&pool, large, n).kind);
    assert_int_equal(KLN_DIM_UNKNOWN, kln_dim_floor_divide(&pool, n, KLN_DIM_OF_NUMBER(0)).kind);
    assert_false(kln_dim_equal(high, high)); /* unknown is not even itself */
    char small[4];
    assert_int_equal(4 + 1, kln_dim_format(kln_dim_plus(&pool, n, 123), small, sizeof small));
    assert_string_equal("n+1", small);
    kln_arena_finish(&arena);
}

/* --- names through a network --- */

TEST(names_survive)
{
    owned_maker m;
    maker_begin(&m, 17);
    maker_input(&m, "image", 1, "batch,3,h,w");
    maker_weights(&m, "w", 1, "16,3,3,3");
    maker_node(&m, "Conv", "image,w", "c");
    maker_attribute_ints(&m, "strides", 2, (int64_t[]){2, 2});
    maker_attribute_ints(&m, "pads", 4, (int64_t[]){1, 1, 1, 1});
    maker_node(&m, "Relu", "c", "r");
    maker_node(&m, "MaxPool", "r", "p");
    maker_attribute_ints(&m, "kernel_shape", 2, (int64_t[]){2, 2});
    maker_attribute_ints(&m, "strides", 2, (int64_t[]){2, 2});
    maker_node(&m, "GlobalAveragePool", "r", "g");
    maker_node(&m, "Flatten", "g", "f");
    maker_node(&m, "Concat", "image,image", "twice");
    maker_attribute_int(&m, "axis", 2);
    maker_node(&m, "Transpose", "image", "t");
    maker_attribute_ints(&m, "perm", 4, (int64_t[]){0, 2, 3, 1});
    maker_output(&m, "f", 0, NULL);
    kln_inference *i = infer(&m);
    assert_type("float32[batch,16,floor((h+1)/2),floor((w+1)/2)]", i, "c");
    assert_type("float32[batch,16,1,1]", i, "g");
    assert_type("float32[batch,16]", i, "f");
    assert_type("float32[batch,3,2*h,w]", i, "twice");
    assert_type("float32[batch,h,w,3]", i, "t");
    assert_type("float32[batch,16,floor(floor((h+1)/2)/2),floor(floor((w+1)/2)/2)]", i, "p");
    kiln_shape shape;
    assert_true(kln_value_shape(kln_inference_find(i->graph, "f"), &shape));
    assert_int_equal(KILN_DYNAMIC, shape.dims[0]);
    assert_int_equal(16, shape.dims[1]);
    assert_false(kln_value_shape(&(kln_value){.has_shape = false}, &shape));
    kln_inference_destroy(i);
}

/* The usual way to flatten: Shape, Gather, Concat with -1, Reshape. */
TEST(shapes_are_followed)
{
    owned_maker m;
    maker_begin(&m, 13);
    maker_input(&m, "x", 1, "batch,seq,768");
    maker_node(&m, "Shape", "x", "shape");
    maker_int(&m, "zero", 0);
    maker_int(&m, "one", 1);
    maker_ints(&m, "axis0", 1, (int64_t[]){0});
    maker_ints(&m, "heads", 2, (int64_t[]){12, -1});
    maker_node(&m, "Gather", "shape,zero", "b");
    maker_node(&m, "Gather", "shape,one", "s");
    maker_node(&m, "Unsqueeze", "b,axis0", "b1");
    maker_node(&m, "Unsqueeze", "s,axis0", "s1");
    maker_node(&m, "Concat", "b1,s1,heads", "target");
    maker_attribute_int(&m, "axis", 0);
    maker_node(&m, "Reshape", "x,target", "y");
    maker_node(&m, "Mul", "s1,s1", "square");
    maker_node(&m, "Concat", "square,b1", "target2");
    maker_attribute_int(&m, "axis", 0);
    maker_node(&m, "ConstantOfShape", "target2", "filled");
    maker_node(&m, "Cast", "s", "s_float");
    maker_attribute_int(&m, "to", 1);
    maker_floats(&m, "half", 1, (float[]){2.0F});
    maker_node(&m, "Mul", "s_float,half", "double_float");
    maker_node(&m, "Cast", "double_float", "double_int");
    maker_attribute_int(&m, "to", 7);
    maker_node(&m, "Expand", "zero,double_int", "expanded");
    maker_node(&m, "Range", "zero,s,one", "range");
    maker_output(&m, "y", 0, NULL);
    kln_inference *i = infer(&m);
    assert_type("float32[batch,seq,12,64]", i, "y");
    assert_type("float32[seq*seq,batch]", i, "filled");
    assert_type("int64[2*seq]", i, "expanded");
    assert_type("int64[seq]", i, "range");
    size_t count = 0;
    const kln_dim *target = kln_value_contents(i, kln_inference_find(i->graph, "target"), &count);
    assert_non_null(target);
    assert_int_equal(4, count);
    assert_string_equal("batch", kln_dim_name(target[0]));
    assert_int_equal(-1, target[3].of.number);
    kln_inference_destroy(i);
}

/* Attributes became inputs: the same in the old form and in the new one. */
TEST(versions_differ)
{
    owned_maker m;
    maker_begin(&m, 11);
    maker_input(&m, "x", 1, "1,n,1,8");
    maker_node(&m, "Squeeze", "x", "s");
    maker_attribute_ints(&m, "axes", 2, (int64_t[]){0, 2});
    maker_node(&m, "ReduceMean", "x", "r");
    maker_attribute_ints(&m, "axes", 1, (int64_t[]){-1});
    maker_node(&m, "Split", "x", "a,b");
    maker_attribute_int(&m, "axis", 3);
    maker_attribute_ints(&m, "split", 2, (int64_t[]){3, 5});
    maker_output(&m, "s", 0, NULL);
    kln_inference *i = infer(&m);
    assert_type("float32[n,8]", i, "s");
    assert_type("float32[1,n,1,1]", i, "r");
    assert_type("float32[1,n,1,3]", i, "a");
    assert_type("float32[1,n,1,5]", i, "b");
    kln_inference_destroy(i);
    maker_end(&m);

    maker_begin(&m, 18);
    maker_input(&m, "x", 1, "1,n,1,8");
    maker_ints(&m, "axes", 2, (int64_t[]){0, 2});
    maker_ints(&m, "last", 1, (int64_t[]){-1});
    maker_node(&m, "Squeeze", "x,axes", "s");
    maker_node(&m, "ReduceMean", "x,last", "r");
    maker_attribute_int(&m, "keepdims", 0);
    maker_node(&m, "Split", "x", "a,b,c");
    maker_attribute_int(&m, "axis", 3);
    maker_attribute_int(&m, "num_outputs", 3);
    maker_ints(&m, "starts", 1, (int64_t[]){1});
    maker_ints(&m, "ends", 1, (int64_t[]){INT64_MAX});
    maker_ints(&m, "axis1", 1, (int64_t[]){1});
    maker_node(&m, "Slice", "x,starts,ends,axis1", "rest");
    maker_output(&m, "s", 0, NULL);
    i = infer(&m);
    assert_type("float32[n,8]", i, "s");
    assert_type("float32[1,n,1]", i, "r");
    assert_type("float32[1,n,1,3]", i, "a");
    assert_type("float32[1,n,1,2]", i, "c");
    assert_type("float32[1,max(n-1,0),1,8]", i, "rest");
    kln_inference_destroy(i);
}

/* --- subgraphs --- */

TEST(branches_are_united)
{
    owned_maker m;
    make_branches(&m);
    kln_inference *i = infer(&m);
    assert_type("float32[?,4]", i, "z");
    assert_int_equal(2, i->graph->nodes[0].graph_count);
    const kln_graph_inference *inner = i->graph->nodes[0].graphs[0];
    assert_ptr_equal(i->graph, inner->parent);
    assert_non_null(kln_inference_find(inner, "which"));
    (void)kln_value_format(kln_inference_find(inner, "inner_relu"), text, sizeof text);
    assert_string_equal("float32[n,4]", text);
    /* Read by both branches, through indices of their own. */
    assert_int_equal(3, kln_inference_find(i->graph, "x")->consumers);
    assert_ptr_equal(inner->values[inner->nodes[0].inputs[0]], kln_inference_find(i->graph, "x"));
    kln_inference_destroy(i);
}

TEST(functions_are_entered)
{
    owned_maker m;
    maker_begin(&m, 17);
    maker_input(&m, "x", 1, "n,8");
    maker_node(&m, "Halve", "x", "y");
    m.node->domain = "local";
    maker_attribute_int(&m, "where", 1);
    maker_output(&m, "y", 0, NULL);
    kln_onnx_opset imports[] = {{.domain = "", .version = 17}, {.domain = "local", .version = 1}};
    m.model->opsets = imports;
    m.model->opset_count = 2;
    const char *inputs[] = {"a"};
    const char *outputs[] = {"left"};
    kln_onnx_function function = {.name = "Halve",
                                  .domain = "local",
                                  .overload = "",
                                  .inputs = inputs,
                                  .input_count = 1,
                                  .outputs = outputs,
                                  .output_count = 1,
                                  .opsets = imports,
                                  .opset_count = 1};
    m.graph = &function.body;
    maker_node(&m, "Split", "a", "left,right");
    maker_attribute_int(&m, "axis", 0);
    m.node->attributes[0].reference = "where";
    m.node->attributes[0].i = 0;
    m.graph = &m.model->graph;
    m.model->functions = &function;
    m.model->function_count = 1;
    kln_inference *i = infer(&m);
    assert_type("float32[n,4]", i, "y");
    assert_int_equal(1, i->graph->nodes[0].graph_count);
    assert_true(kln_node_is_call(&i->graph->nodes[0]));
    kln_inference_destroy(i);

    /* A function that calls itself ends in an issue, not in the stack. */
    m.graph = &function.body;
    function.body.node_count = 0;
    maker_node(&m, "Halve", "a", "left");
    m.node->domain = "local";
    function.opsets = imports;
    function.opset_count = 2;
    m.graph = &m.model->graph;
    kln_inference *endless = NULL;
    assert_ok(kln_infer(m.model, NULL, &endless));
    assert_int_equal(1, kiln_issue_list_errors(endless->issues));
    assert_non_null(strstr(kiln_issue_list_get(endless->issues, 0)->sentence, "deep"));
    kln_inference_destroy(endless);
}

/* Each function calls the one before it twice: a million nodes from sixty. */
TEST(explosions_end)
{
    enum { FUNCTIONS = 20 };
    static char names[FUNCTIONS][8];
    static kln_onnx_opset imports[] = {{.domain = "", .version = 17},
                                       {.domain = "f", .version = 1}};
    static const char *inputs[] = {"a"};
    static const char *outputs[] = {"c"};
    owned_maker m;
    maker_begin(&m, 17);
    m.model->opsets = imports;
    m.model->opset_count = 2;
    maker_input(&m, "x", 1, "n");
    kln_onnx_function *functions =
        kln_arena_alloc_zeroed(&m.model->arena, FUNCTIONS, sizeof *functions);
    assert_non_null(functions);
    for (size_t i = 0; i < FUNCTIONS; i++) {
        (void)snprintf(names[i], sizeof names[i], "f%zu", i);
        functions[i] = (kln_onnx_function){.name = names[i],
                                           .domain = "f",
                                           .overload = "",
                                           .inputs = inputs,
                                           .input_count = 1,
                                           .outputs = outputs,
                                           .output_count = 1,
                                           .opsets = imports,
                                           .opset_count = 2};
        m.graph = &functions[i].body;
        maker_node(&m, i == 0 ? "Relu" : names[i - 1], "a", "b");
        m.node->domain = i == 0 ? "" : "f";
        maker_node(&m, i == 0 ? "Neg" : names[i - 1], "b", "c");
        m.node->domain = i == 0 ? "" : "f";
    }
    m.graph = &m.model->graph;
    m.model->functions = functions;
    m.model->function_count = FUNCTIONS;
    maker_node(&m, names[8], "x", "y");
    m.node->domain = "f";
    maker_output(&m, "y", 0, NULL);
    kln_inference *i = infer(&m);
    assert_type("float32[n]", i, "y");
    kln_inference_destroy(i);
    m.graph->nodes[0].op_type = names[FUNCTIONS - 1];
    assert_fails(KILN_ERROR_LIMIT, kln_infer(m.model, NULL, &i), "500000 nodes");
}

/* A list of 4,000 sizes that a thousand nodes make a shape of. */
TEST(long_lists_stay_few)
{
    static int64_t sizes[4000];
    static char names[1000][8];
    owned_maker m;
    maker_begin(&m, 17);
    for (size_t i = 0; i < 4000; i++) {
        sizes[i] = 1;
    }
    maker_ints(&m, "sizes", 4000, sizes);
    for (size_t i = 0; i < 1000; i++) {
        (void)snprintf(names[i], sizeof names[i], "t%zu", i);
        maker_node(&m, i % 2 == 0 ? "ConstantOfShape" : "Identity", "sizes", names[i]);
    }
    maker_output(&m, names[999], 0, NULL);
    kln_inference *i = infer(&m);
    assert_type("float32", i, "t0");
    assert_true(i->arena.bytes < (size_t)4 << 20);
    kln_inference_destroy(i);
}
